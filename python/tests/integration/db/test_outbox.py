"""The outbox: what committed is published, what did not is not, and nothing is deleted before its confirm."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.db.models.outbox import OutboxMessage
from tradingflow.db.outbox import OutboxRelay, OutgoingMessage, enqueue

LANE = "py_worker"


class Published:
    """Records what a broker would have confirmed; refuses while `failing`."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.failing = False
        self.changed = asyncio.Event()

    async def __call__(self, messages: Sequence[OutgoingMessage]) -> None:
        if self.failing:
            raise DependencyUnavailable("publish_failed", "no confirm")
        self.ids += [m.message_id for m in messages]
        self.changed.set()


def _messages(*ids: str) -> list[OutgoingMessage]:
    return [OutgoingMessage("cycles", "cycle.partition.0", i, b"{}") for i in ids]


async def _waiting(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return await connection.scalar(select(func.count()).select_from(OutboxMessage)) or 0


async def test_committed_messages_leave_in_order_and_once(engine: AsyncEngine) -> None:
    published = Published()
    async with engine.begin() as connection:
        await enqueue(connection, LANE, _messages("a", "b", "c"))
    relay = OutboxRelay(engine, LANE, published)
    assert await relay.relay_batch() == 3
    assert await relay.relay_batch() == 0
    assert published.ids == ["a", "b", "c"]


async def test_a_rolled_back_message_is_never_published(engine: AsyncEngine) -> None:
    published = Published()
    async with engine.connect() as connection:
        await enqueue(connection, LANE, _messages("a"))
        await connection.rollback()
    assert await OutboxRelay(engine, LANE, published).relay_batch() == 0
    assert published.ids == []


async def test_a_message_the_broker_did_not_confirm_stays_and_goes_out_later(engine: AsyncEngine) -> None:
    published = Published()
    published.failing = True
    async with engine.begin() as connection:
        await enqueue(connection, LANE, _messages("a"))
    relay = OutboxRelay(engine, LANE, published)
    with pytest.raises(DependencyUnavailable):
        await relay.relay_batch()
    assert await _waiting(engine) == 1
    published.failing = False
    await relay.relay_batch()
    assert published.ids == ["a"]
    assert await _waiting(engine) == 0


async def test_a_relay_leaves_other_lanes_alone(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await enqueue(connection, "monitor", _messages("a"))
    assert await OutboxRelay(engine, LANE, Published()).relay_batch() == 0
    assert await _waiting(engine) == 1


async def test_a_running_relay_survives_failures_and_wakes_on_commit(engine: AsyncEngine) -> None:
    published = Published()
    published.failing = True
    async with engine.begin() as connection:
        await enqueue(connection, LANE, _messages("a"))
    running = asyncio.create_task(OutboxRelay(engine, LANE, published).run())
    try:
        published.failing = False
        async with asyncio.timeout(10):
            await published.changed.wait()
            published.changed.clear()
            async with engine.begin() as connection:
                await enqueue(connection, LANE, _messages("b"))
            await published.changed.wait()
        assert published.ids == ["a", "b"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_two_relays_of_one_lane_publish_each_message_once(engine: AsyncEngine) -> None:
    published = Published()
    ids = [f"m{i}" for i in range(1200)]
    async with engine.begin() as connection:
        await enqueue(connection, LANE, _messages(*ids))
    relays = [OutboxRelay(engine, LANE, published) for _ in range(2)]
    while await _waiting(engine):
        await asyncio.gather(*(relay.relay_batch() for relay in relays))
    assert published.ids == ids
