"""Which sessions and API keys have ended while their access tokens live: in memory, kept true by PostgreSQL's NOTIFY.

While the listening connection is down the database is asked instead, so a revoked token never slips through.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from tradingflow.core.clock import Clock
from tradingflow.core.config import LONGEST_ACCESS_TOKEN_S
from tradingflow.core.logging import get_logger
from tradingflow.db.clock import ensure_known
from tradingflow.db.models import ApiKey, AuthSession

log = get_logger(__name__)

CHANNEL = "session_revoked"
RETRY_S = 1.0
# The listening connection is asked this often whether it still lives; an answer may take as long.
PING_S = 2.0
# A token that was issued as its session ended has expired by then.
REMEMBERED = timedelta(seconds=LONGEST_ACCESS_TOKEN_S)


class RevokedSessions:
    """One a process: `watch` runs beside the requests that ask `contains`."""

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._ended: dict[UUID, datetime] = {}
        self._is_following = False

    async def contains(self, session_id: UUID) -> bool:
        """Whether this session, or API key, has ended. Asks the database only while nothing is heard from it."""
        if session_id in self._ended:
            return True
        if self._is_following:
            return False
        async with self._engine.connect() as connection:
            for table in (AuthSession, ApiKey):
                statement = select(table.revoked_at).where(table.id == session_id)
                if await connection.scalar(statement) is not None:
                    return True
            return False

    async def announce(self, session: AsyncSession, session_id: UUID) -> None:
        """Tell every process once the caller's transaction commits; this one knows it before the answer goes out."""
        await session.execute(text("SELECT pg_notify(:channel, :id)"), {"channel": CHANNEL, "id": str(session_id)})

        def remember(_: Any) -> None:
            self._add(session_id)

        event.listen(session.sync_session, "after_commit", remember, once=True)

    async def watch(self) -> None:
        """Follow what ends until cancelled."""
        while True:
            try:
                async with self._engine.connect() as connection:
                    await self._follow(connection)
            except Exception as error:  # noqa: BLE001 - the edge of a background loop: say it, wait, go on
                log.warning("session revocations interrupted", error=error)
            await asyncio.sleep(RETRY_S)

    async def _follow(self, connection: AsyncConnection) -> None:
        """Listening comes first: what is revoked while the rest is read arrives as a notification."""
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        lost = asyncio.Event()
        driver.add_termination_listener(lambda _: lost.set())
        await driver.add_listener(CHANNEL, self._on_notify)
        await self._read_ended()
        self._is_following = True
        try:
            while not lost.is_set():
                try:
                    await asyncio.wait_for(lost.wait(), PING_S)
                except TimeoutError:
                    # Somewhere on the way a connection may be gone that nobody has closed.
                    await driver.fetchval("SELECT 1", timeout=PING_S)
                    self._forget()
        finally:
            self._is_following = False
            # Not back into the pool: it listens, or it does not answer.
            driver.terminate()
            await connection.invalidate()
        raise ConnectionError("the listening connection is gone")

    async def _read_ended(self) -> None:
        await ensure_known(self._clock)
        since = self._clock.now() - REMEMBERED
        async with self._engine.connect() as connection:
            for table in (AuthSession, ApiKey):
                rows = await connection.execute(select(table.id, table.revoked_at).where(table.revoked_at > since))
                self._ended.update((row.id, row.revoked_at) for row in rows)

    def _forget(self) -> None:
        since = self._clock.now() - REMEMBERED
        for session_id in [known for known, ended in self._ended.items() if ended < since]:
            del self._ended[session_id]

    def _on_notify(self, _: object, __: int, ___: str, payload: object) -> None:
        self._add(UUID(str(payload)))

    def _add(self, session_id: UUID) -> None:
        self._ended[session_id] = self._clock.now()
