"""One database connection kept open for one reader or writer: a pool's check and hand-over cost more than a hop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from sqlalchemy import URL

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.db.engine import KEEPALIVES
from tradingflow.db.failures import passing_failure

CONNECT_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 60.0
FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


class StatementRefused(DependencyUnavailable):
    """PostgreSQL is there and says no: the same statement would fare no better another time."""


class KeptConnection:
    """Used by one task at a time; opened when first needed, and again after it was lost."""

    def __init__(self, url: URL, application: str) -> None:
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._application = application
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """The live connection, dropped after any failure.

        Raises StatementRefused for what PostgreSQL will never take, DependencyUnavailable for what passes.
        """
        async with self._turn:
            try:
                yield await self._open()
            except FAILURES as error:
                await self._drop()
                does_pass = isinstance(error, OSError) or passing_failure(error) is not None
                failure = DependencyUnavailable if does_pass else StatementRefused
                raise failure("database_unavailable", f"PostgreSQL failed: {type(error).__name__}") from error
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
                server_settings={
                    "application_name": self._application,
                    "timezone": "UTC",
                    "lock_timeout": "10s",
                    **KEEPALIVES,
                },
            )
        return self._connection

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*FAILURES):
                connection.terminate()
