"""Queues are consumed in order, through whatever happens to the connection or comes in a message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aio_pika.abc import AbstractIncomingMessage

from tests.integration.messaging.gate import Gate
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.tasks import running
from tradingflow.messaging import consuming
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.consuming import consume_in_order
from tradingflow.messaging.topology import CYCLES_DEAD, DELIVERY_TRIES

WITHIN_S = 60.0

Trouble = Callable[[], Awaitable[None]]


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consuming, "RETRY_S", 0.05)


class Handled:
    """Handles messages, and some of them with trouble the first so many times; remembers those that went well."""

    def __init__(self, expected: int) -> None:
        self.ids: list[str | None] = []
        self.tries = 0
        self.all = asyncio.Event()
        self._expected = expected
        self._trouble: dict[str, tuple[int, Trouble]] = {}

    def meets(self, message_id: str, times: int, trouble: Trouble) -> None:
        self._trouble[message_id] = (times, trouble)

    async def __call__(self, message: AbstractIncomingMessage) -> None:
        times, trouble = self._trouble.get(message.message_id or "", (0, _none))
        if self.tries < times:
            self.tries += 1
            await trouble()
        self.ids.append(message.message_id)
        if len(self.ids) == self._expected:
            self.all.set()


async def _none() -> None:
    pass


async def _away() -> None:
    raise DependencyUnavailable("database_unavailable", "PostgreSQL does not answer")


async def _hang() -> None:
    await asyncio.Event().wait()


async def _break() -> None:
    raise ValueError("this message makes no sense")


async def send(url: str, *message_ids: str) -> None:
    async with Broker(url, name="sender", partitions=1) as broker:
        for message_id in message_ids:
            await broker.publish(CYCLES_DEAD, "", b"{}", message_id=message_id)


async def consumed(url: str, handled: Handled) -> None:
    async with (
        Broker(url, name="test", partitions=1) as broker,
        running(consume_in_order(broker, CYCLES_DEAD, handled)),
    ):
        async with asyncio.timeout(WITHIN_S):
            await handled.all.wait()


@pytest.mark.parametrize("trouble", [_away, _hang, _break])
async def test_no_message_overtakes_one_that_is_handled_again(
    rabbitmq_url: str, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "LONGEST_S", 0.5)
    await send(rabbitmq_url, "1", "2", "3")
    handled = Handled(3)
    handled.meets("1", 2, trouble)
    await consumed(rabbitmq_url, handled)
    assert handled.ids == ["1", "2", "3"]


async def test_a_message_nothing_can_be_made_of_holds_up_no_other(rabbitmq_url: str) -> None:
    await send(rabbitmq_url, "1", "2", "3")
    handled = Handled(2)
    handled.meets("1", 1_000, _break)
    await consumed(rabbitmq_url, handled)
    assert handled.ids == ["2", "3"]
    assert handled.tries == DELIVERY_TRIES


async def test_it_goes_on_after_the_connection_was_lost(rabbitmq_url: str) -> None:
    arrived: asyncio.Queue[str | None] = asyncio.Queue()

    async def handle(message: AbstractIncomingMessage) -> None:
        arrived.put_nowait(message.message_id)

    async with (
        Gate(rabbitmq_url).serving() as gate,
        Broker(gate.url, name="test", partitions=1) as broker,
        running(consume_in_order(broker, CYCLES_DEAD, handle)),
        asyncio.timeout(WITHIN_S),
    ):
        await send(rabbitmq_url, "1")
        assert await arrived.get() == "1"
        gate.cut()
        await send(rabbitmq_url, "2")
        while await arrived.get() != "2":
            pass  # the first again, when its acknowledgement was cut off
