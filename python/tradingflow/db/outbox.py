"""Transactional outbox: a message row commits with the change it tells of, a relay publishes it afterwards.

Published means confirmed by the broker; only then is the row deleted. A relay that dies in between publishes the
row again, with the same message id, so consumers see a duplicate and never a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from tradingflow.core.logging import get_logger
from tradingflow.db.models.outbox import OutboxMessage

log = get_logger(__name__)

CHANNEL = "outbox"
BATCH = 500
# A lost notification delays a message by this long at most.
POLL_S = 1.0


@dataclass(frozen=True)
class OutgoingMessage:
    exchange: str
    routing_key: str
    message_id: str
    body: bytes


Publish = Callable[[Sequence[OutgoingMessage]], Awaitable[None]]


async def enqueue(session: AsyncSession | AsyncConnection, lane: str, messages: Sequence[OutgoingMessage]) -> None:
    """Add messages to `lane` inside the caller's transaction and wake its relay when that commits."""
    if not messages:
        return
    rows = [
        {"lane": lane, "exchange": m.exchange, "routing_key": m.routing_key, "message_id": m.message_id, "body": m.body}
        for m in messages
    ]
    await session.execute(insert(OutboxMessage), rows)
    await session.execute(text("SELECT pg_notify(:channel, :lane)"), {"channel": CHANNEL, "lane": lane})


class OutboxRelay:
    """Publishes one lane in id order. Any number may run; an advisory lock lets one work at a time.

    `publish` must return only once every message is confirmed, and raise otherwise.
    """

    def __init__(self, engine: AsyncEngine, lane: str, publish: Publish, batch: int = BATCH) -> None:
        self._engine = engine
        self._lane = lane
        self._publish = publish
        self._batch = batch
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Relay until cancelled; a broker or database that is away is waited for."""
        while True:
            try:
                async with self._engine.connect() as listener:
                    await self._listen(listener)
                    await self._drain_forever()
            except Exception as error:  # noqa: BLE001 (the edge of a background loop: say it, wait, go on)
                log.warning("outbox relay interrupted", lane=self._lane, error=error)
                await asyncio.sleep(POLL_S)

    async def _listen(self, connection: AsyncConnection) -> None:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        await driver.add_listener(CHANNEL, self._on_notify)

    def _on_notify(self, _: object, __: int, ___: str, lane: object) -> None:
        if lane == self._lane:
            self._wake.set()

    async def _drain_forever(self) -> None:
        while True:
            self._wake.clear()
            while await self.relay_batch():
                pass
            try:
                await asyncio.wait_for(self._wake.wait(), POLL_S)
            except TimeoutError:
                continue

    async def relay_batch(self) -> int:
        """Publish and delete up to a batch of rows; returns how many. 0 also when another relay holds the lane."""
        async with self._engine.begin() as connection:
            if not await self._take_lane(connection):
                return 0
            rows = (
                await connection.execute(
                    select(OutboxMessage.__table__)
                    .where(OutboxMessage.lane == self._lane)
                    .order_by(OutboxMessage.id)
                    .limit(self._batch)
                )
            ).all()
            if not rows:
                return 0
            await self._publish([OutgoingMessage(r.exchange, r.routing_key, r.message_id, r.body) for r in rows])
            await connection.execute(delete(OutboxMessage).where(OutboxMessage.id.in_([r.id for r in rows])))
            return len(rows)

    async def _take_lane(self, connection: AsyncConnection) -> bool:
        taken = await connection.scalar(
            text("SELECT pg_try_advisory_xact_lock(hashtextextended(:lane, 0))"), {"lane": f"outbox:{self._lane}"}
        )
        return bool(taken)
