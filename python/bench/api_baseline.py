"""The yardstick of `bench-api`: bare FastAPI and asyncpg, the platform's own query a request, no sign-in, no models."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
from orjson import dumps

from tradingflow.account_manager.portfolio.repository import NEWEST
from tradingflow.account_manager.trade.history import list_statement
from tradingflow.account_manager.user.repository import USER_WITH_WALLETS
from tradingflow.db.reads import PreparedRead

# What the platform asks for a page of 50: the row too many tells that there is another page.
TRADES_LIMIT = 51
POOL_SIZE = 10


def create_app(dsn: str, user_id: UUID) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
            app.state.pool = pool
            yield

    app = FastAPI(lifespan=lifespan)

    async def answer(read: PreparedRead, *more: Any) -> Response:
        rows = await app.state.pool.fetch(read.sql, user_id, *more)
        return Response(dumps([list(row.values()) for row in rows], default=_plain), media_type="application/json")

    @app.get("/users/me")
    async def me() -> Response:
        return await answer(USER_WITH_WALLETS)

    @app.get("/portfolio")
    async def portfolio() -> Response:
        return await answer(NEWEST)

    @app.get("/trades")
    async def trades() -> Response:
        return await answer(list_statement(frozenset()), TRADES_LIMIT)

    return app


def _plain(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    uvicorn.run(
        create_app(os.environ["DATABASE_URL"].replace("+asyncpg", ""), UUID(os.environ["BENCH_USER"])),
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
    )
