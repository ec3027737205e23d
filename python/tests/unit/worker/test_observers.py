"""Telling observers is best effort: it takes bounded memory and never ends a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import msgspec

from tests.unit.engine.conftest import edge, graph_of, node
from tests.unit.worker.memory import MB, grows_by_at_most
from tradingflow.messaging.broker import Broker
from tradingflow.py_worker.engine.cycle import Outcome
from tradingflow.py_worker.engine.graph import Graph
from tradingflow.py_worker.runtime.live import LiveCycle
from tradingflow.py_worker.runtime.observers import MAX_WAITING, MAX_WAITING_BYTES, Observers
from tradingflow.py_worker.runtime.records import StoredCycle
from tradingflow.py_worker.runtime.runner import Ended


class FakeBroker:
    """Takes what is published, except for the routing keys it fails at."""

    def __init__(self, fails: Callable[[str], bool] = lambda _: False) -> None:
        self.taken: asyncio.Queue[Any] = asyncio.Queue()
        self._fails = fails

    async def publish(self, exchange: str, routing_key: str, body: bytes, *, message_id: str) -> None:
        if self._fails(routing_key):
            raise ValueError("Routing key too long (max 255 bytes)")
        self.taken.put_nowait(msgspec.json.decode(body))


def live_cycle(followers: int) -> LiveCycle:
    """One source that `followers` nodes follow."""
    names = [f"n{number}" for number in range(followers)]
    graph = graph_of([node("source", "start"), *map(node, names)], [edge("source", name) for name in names])
    return live_on(graph)


def live_on(graph: Graph) -> LiveCycle:
    return LiveCycle(StoredCycle((uuid4(), 0), "flow", uuid4(), "running", "live", 1, "running", {}), graph, 4)


def tell(observers: Observers, live: LiveCycle, value: Any) -> None:
    outputs = {"out": value}
    outcome = Outcome("completed", outputs, finished_at=datetime.now(UTC))
    observers.tell(live, live.graph.nodes[0], Ended(outcome, msgspec.json.encode(outputs), []))


@asynccontextmanager
async def telling(observers: Observers) -> AsyncIterator[None]:
    """`observers` at work; what ends them ends the test."""
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        work = group.create_task(observers.run())
        yield
        work.cancel()


async def test_a_signal_that_cannot_be_told_ends_nothing() -> None:
    broker = FakeBroker(fails=lambda routing_key: ".to.n0." in routing_key)
    observers = Observers(cast("Broker", broker))
    async with telling(observers):
        tell(observers, live_cycle(2), 7)
        assert (await broker.taken.get())["target_node"] == "n1"
        tell(observers, live_cycle(2), 8)
        assert (await broker.taken.get())["value"] == 8


async def test_an_output_waits_once_however_many_edges_it_leaves_by() -> None:
    broker = FakeBroker()
    observers = Observers(cast("Broker", broker))
    live, value = live_cycle(199), "x" * MB
    with grows_by_at_most(10 * MB):
        tell(observers, live, value)
    async with telling(observers):
        told = [await broker.taken.get() for _ in range(199)]
    assert [signal["target_node"] for signal in told] == [f"n{number}" for number in range(199)]
    assert {signal["value"] for signal in told} == {value}


async def test_the_oldest_of_too_many_bytes_are_not_told() -> None:
    broker = FakeBroker()
    observers = Observers(cast("Broker", broker))
    fit = MAX_WAITING_BYTES // MB
    cycles = 3 * fit
    with grows_by_at_most(2 * MAX_WAITING_BYTES):
        for number in range(cycles):
            tell(observers, live_cycle(2), str(number).ljust(MB))
    async with telling(observers):
        first = await broker.taken.get()
        tell(observers, live_cycle(1), "and goes on")
        while (await broker.taken.get())["value"] != "and goes on":
            pass
    assert cycles - fit <= int(first["value"]) < cycles - fit / 2


async def test_the_oldest_of_too_many_signals_are_not_told() -> None:
    broker = FakeBroker()
    observers = Observers(cast("Broker", broker))
    live = live_cycle(1)
    for number in range(MAX_WAITING + 3):
        tell(observers, live_on(live.graph), number)
    async with telling(observers):
        assert (await broker.taken.get())["value"] == 3
