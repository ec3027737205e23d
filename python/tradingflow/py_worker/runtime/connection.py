"""One database connection kept open for one reader or writer: a pool's check and hand-over cost more than a hop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from sqlalchemy import URL

from tradingflow.core.errors import DependencyUnavailable

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 60.0
FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


class KeptConnection:
    """Used by one task at a time; opened when first needed, and again after it was lost."""

    def __init__(self, url: URL, application: str) -> None:
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._application = application
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """The live connection. Raises DependencyUnavailable for whatever PostgreSQL says no to; then it is dropped."""
        async with self._turn:
            try:
                yield await self._open()
            except FAILURES as error:
                await self._drop()
                what = type(error).__name__
                raise DependencyUnavailable("database_unavailable", f"PostgreSQL failed: {what}") from error
            except asyncio.CancelledError:
                await self._drop()
                raise

    async def close(self) -> None:
        async with self._turn:
            await self._drop()

    async def _open(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=COMMAND_TIMEOUT_S,
                server_settings={"application_name": self._application, "timezone": "UTC", "lock_timeout": "10s"},
            )
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*FAILURES):
                connection.terminate()
