"""Which sessions and API keys have ended while their access tokens live: in memory, kept true by PostgreSQL's NOTIFY.

While the listening connection is down the database is asked instead, so a revoked token never slips through.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from tradingflow.core.clock import Clock
from tradingflow.core.logging import get_logger
from tradingflow.db.models import ApiKey, AuthSession

log = get_logger(__name__)

CHANNEL = "session_revoked"
RETRY_S = 1.0
# Entries older than an access token are of no use; the set is rebuilt this often.
REBUILD_S = 600.0


class RevokedSessions:
    def __init__(self, engine: AsyncEngine, access_token_ttl_s: int, clock: Clock) -> None:
        self._engine = engine
        self._ttl = timedelta(seconds=access_token_ttl_s)
        self._clock = clock
        self._revoked: set[UUID] | None = None
        self._arriving: set[UUID] = set()

    async def contains(self, session_id: UUID) -> bool:
        if self._revoked is not None:
            return session_id in self._revoked
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
        """Keep the set true until cancelled."""
        while True:
            try:
                async with self._engine.connect() as connection:
                    await self._follow(connection)
            except Exception as error:  # noqa: BLE001 - the edge of a background loop: say it, wait, go on
                log.warning("session revocations interrupted", error=error)
            finally:
                self._revoked = None
            await asyncio.sleep(RETRY_S)

    async def _follow(self, connection: AsyncConnection) -> None:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        lost = asyncio.Event()
        driver.add_termination_listener(lambda _: lost.set())
        await driver.add_listener(CHANNEL, self._on_notify)
        while not lost.is_set():
            await self._rebuild()
            try:
                await asyncio.wait_for(lost.wait(), REBUILD_S)
            except TimeoutError:
                continue
        raise ConnectionError("the listening connection is gone")

    async def _rebuild(self) -> None:
        """Listening comes first: what is revoked while this reads arrives as a notification, into `_arriving`."""
        self._arriving = set()
        since = self._clock.now() - self._ttl
        async with self._engine.connect() as connection:
            ended: set[UUID] = set()
            for table in (AuthSession, ApiKey):
                ended.update(await connection.scalars(select(table.id).where(table.revoked_at > since)))
            self._revoked = self._arriving | ended

    def _on_notify(self, _: object, __: int, ___: str, payload: object) -> None:
        self._add(UUID(str(payload)))

    def _add(self, session_id: UUID) -> None:
        self._arriving.add(session_id)
        if self._revoked is not None:
            self._revoked.add(session_id)
