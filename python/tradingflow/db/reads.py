"""Reads that many requests make: statements compiled once, run on asyncpg itself.

Building and compiling a statement for every request, and making objects of its rows, cost several times the query
(docs/adr/0006). A statement is still written with the models' columns; only its rows are the driver's own: addresses
and hashes are bytes, NUMERIC is Decimal, JSON is text.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql import asyncpg as driver
from sqlalchemy.engine import Dialect

from tradingflow.core.config import PlatformSettings
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.db.engine import KEEPALIVES

_DIALECT: Dialect = driver.dialect()  # type: ignore[no-untyped-call]
# A connection that died is noticed by whoever uses it next; a read may simply be asked again.
ATTEMPTS = 2
ACQUIRE_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 10.0


# The last one is what asyncpg says of a connection that the server ended while it idled.
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
    asyncpg.InternalClientError,
)


class PreparedRead:
    """A statement whose `bindparam`s are given by name when it is run."""

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        self.sql = str(compiled)
        self._parameters = [
            (name, _processor(compiled.binds[name].type), compiled.params[name]) for name in compiled.positiontup or ()
        ]

    def arguments(self, values: dict[str, Any]) -> list[Any]:
        """What the driver wants, in the order of the statement's `$1, $2 …`."""
        return [
            default if name not in values else values[name] if process is None else process(values[name])
            for name, process, default in self._parameters
        ]


def _processor(type_: Any) -> Callable[[Any], Any] | None:
    found: Callable[[Any], Any] | None = type_.dialect_impl(_DIALECT).bind_processor(_DIALECT)
    return found


class ReadPool:
    """Connections for single reading statements. They are handed on as they are: a read leaves nothing behind."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def fetch(self, read: PreparedRead, **values: Any) -> list[asyncpg.Record]:
        """Raises DependencyUnavailable when the database does not answer."""
        arguments = read.arguments(values)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._fetch(read.sql, arguments)
            except _LOST as error:
                if attempt == ATTEMPTS:
                    raise DependencyUnavailable("database_unavailable", "the database does not answer") from error
        raise AssertionError("unreachable")

    async def _fetch(self, sql: str, arguments: list[Any]) -> list[asyncpg.Record]:
        async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            try:
                rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            except _LOST:
                connection.terminate()  # the pool would hand it on
                raise
            return rows


@asynccontextmanager
async def open_read_pool(settings: PlatformSettings, *, application: str, size: int = 10) -> AsyncIterator[ReadPool]:
    """Connections are made when first needed, so that a service starts without its database."""
    async with asyncpg.create_pool(
        settings.database_dsn.replace("postgresql+asyncpg://", "postgresql://", 1),
        min_size=0,
        max_size=size,
        reset=_leave_as_it_is,
        command_timeout=STATEMENT_TIMEOUT_S,
        server_settings={
            "application_name": application,
            "timezone": "UTC",
            "default_transaction_read_only": "on",
            **KEEPALIVES,
        },
    ) as pool:
        yield ReadPool(pool)


async def _leave_as_it_is(_: object) -> None:
    """Instead of asyncpg's reset, a round trip as long as the read itself."""
