"""One look at everything users want to be told of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.notification import happenings, outgoing, subscriptions
from tradingflow.account_manager.notification.happenings import Happening
from tradingflow.core.clock import Clock
from tradingflow.core.logging import get_logger
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import ChainCursor, NotificationCursor

log = get_logger(__name__)

# PostgreSQL ends a transaction of ours that idles for 60 s; what it wrote cannot appear later than that.
OVERLAP = timedelta(seconds=90)
AT_ONCE = 1_000

Find = Callable[[AsyncSession, datetime, int], Awaitable[Sequence[Happening]]]
SOURCES: dict[str, Find] = {
    "trades": happenings.ended_trades,
    "deployments": happenings.ended_deployments,
    "cycles": happenings.failed_cycles,
}


class Collector:
    """Writes deliveries. Safe to repeat, to break off and to run beside itself."""

    def __init__(self, sessions: SessionFactory, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock

    async def collect(self) -> None:
        """Everything that happened since the last look."""
        for name in SOURCES:
            await self._look(name)
        async with self._sessions() as session:
            chains = list(await session.scalars(select(ChainCursor.chain_id)))
        for chain_id in chains:
            while await self._subscriptions(chain_id):
                pass
            while await self._movements(chain_id):
                pass
        async with self._sessions.begin() as session:
            for channel_id in await outgoing.pause_over_plan(session, self._clock.now()):
                log.warning("channel paused: more notices in a day than its plan has", channel_id=str(channel_id))

    async def _look(self, name: str) -> None:
        now = self._clock.now()
        async with self._sessions.begin() as session:
            cursor = await _cursor(session, name, seen_until=now)
            after = (cursor.seen_until or now) - OVERLAP
            while found := await SOURCES[name](session, after, AT_ONCE):
                await outgoing.tell(session, found, now)
                after = found[-1].at
            cursor.seen_until = now

    async def _subscriptions(self, chain_id: int) -> bool:
        async with self._sessions.begin() as session:
            cursor = await session.get_one(ChainCursor, chain_id)
            await subscriptions.take_back(session, cursor, self._clock.now())
            return await subscriptions.collect(session, cursor, self._clock.now())

    async def _movements(self, chain_id: int) -> bool:
        async with self._sessions.begin() as session:
            chain = await session.get_one(ChainCursor, chain_id)
            cursor = await _cursor(session, f"vaults:{chain_id}", next_block=chain.next_final_block)
            first = cursor.next_block or 0
            found, complete = await happenings.vault_movements(
                session, chain_id, first, chain.next_final_block, AT_ONCE
            )
            await outgoing.tell(session, found, self._clock.now())
            cursor.next_block = max(first, complete)
            return complete < chain.next_final_block


async def _cursor(session: AsyncSession, source: str, **start: datetime | int) -> NotificationCursor:
    """Where the last look ended, kept from others until the commit; the first look begins now."""
    row = await session.get(NotificationCursor, source, with_for_update=True)
    if row is None:
        row = NotificationCursor(source=source, **start)
        session.add(row)
        await session.flush()
    return row
