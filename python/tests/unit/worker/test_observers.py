"""Telling observers is best effort: it costs the flow no memory to speak of and never a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import msgspec

from tests.unit.engine.conftest import edge, graph_of, node
from tradingflow.messaging.broker import Broker
from tradingflow.py_worker.engine.cycle import Outcome
from tradingflow.py_worker.runtime.live import LiveCycle
from tradingflow.py_worker.runtime.observers import Observers
from tradingflow.py_worker.runtime.records import StoredCycle


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
    return LiveCycle(StoredCycle((uuid4(), 0), "flow", uuid4(), "running", "live", 1, "running", {}), graph, 4)


def tell(observers: Observers, live: LiveCycle, value: Any) -> None:
    outcome = Outcome("completed", {"out": value}, finished_at=datetime.now(UTC))
    observers.tell(live, live.graph.nodes[0], outcome)


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
