"""The local data must speak of the local chain; after the chain started afresh it would speak of another one."""

import asyncio
from collections.abc import Callable

import redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from devstack.endpoints import Endpoints
from devstack.errors import DevstackError

HAS_TABLES = "SELECT EXISTS (SELECT FROM information_schema.tables WHERE table_schema = 'public')"
EMPTY = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"


class LocalData:
    """The database and the cache. `disposable` data is ours to throw away; else somebody must decide."""

    def __init__(self, endpoints: Endpoints, *, disposable: bool) -> None:
        self._endpoints = endpoints
        self._disposable = disposable

    def forget_other_chains(self, *, fresh: bool, say: Callable[[str], None]) -> None:
        """Empty what an earlier chain left, when the present one is `fresh`; raises DevstackError if not ours."""
        if fresh and asyncio.run(self._has_tables()):
            if not self._disposable:
                raise DevstackError(
                    "the database of .env holds tables, and the local chain is new: they would not fit together\n"
                    "  what to do: point .env at an empty database, or run with SERVICES=native"
                )
            asyncio.run(self._run(EMPTY))
            with redis.Redis.from_url(self._endpoints.redis_url) as client:
                client.flushdb()
            say("the local chain is new; the data of the earlier one was removed")

    async def _has_tables(self) -> bool:
        return bool(await self._run(HAS_TABLES))

    async def _run(self, statements: str) -> object:
        engine = create_async_engine(self._endpoints.database_url)
        try:
            async with engine.begin() as connection:
                answer = None
                for statement in statements.split("; "):
                    answer = await connection.execute(text(statement))
                return answer.scalar() if answer is not None and answer.returns_rows else None
        finally:
            await engine.dispose()
