"""The yardstick of `bench-api`: bare FastAPI and asyncpg, one query a request, no sign-in, no models."""

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

ME = (
    "SELECT u.id, u.created_at, w.address, w.created_at FROM users u JOIN wallets w ON w.user_id = u.id WHERE u.id = $1"
)
PORTFOLIO = (
    "SELECT v.*, n.* FROM vaults v LEFT JOIN LATERAL (SELECT * FROM vault_valuations x WHERE x.vault_id = v.id"
    " ORDER BY x.taken_at DESC LIMIT 1) n ON true WHERE v.user_id = $1 ORDER BY v.created_at, v.id"
)
TRADES = (
    "SELECT t.*, f.flow_id, i.symbol, i.decimals, o.symbol, o.decimals FROM trades t JOIN flows f ON f.id = t.flow_pk"
    " LEFT JOIN tokens i ON i.chain_id = t.chain_id AND i.address = t.token_in"
    " LEFT JOIN tokens o ON o.chain_id = t.chain_id AND o.address = t.token_out"
    " WHERE t.user_id = $1 ORDER BY t.created_at DESC, t.id DESC LIMIT 51"
)
POOL_SIZE = 20


def create_app(dsn: str, user_id: UUID) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=POOL_SIZE, max_size=POOL_SIZE) as pool:
            app.state.pool = pool
            yield

    app = FastAPI(lifespan=lifespan)

    async def answer(query: str) -> Response:
        rows = await app.state.pool.fetch(query, user_id)
        return Response(dumps([list(row.values()) for row in rows], default=_plain), media_type="application/json")

    @app.get("/users/me")
    async def me() -> Response:
        return await answer(ME)

    @app.get("/portfolio")
    async def portfolio() -> Response:
        return await answer(PORTFOLIO)

    @app.get("/trades")
    async def trades() -> Response:
        return await answer(TRADES)

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
        log_level="warning",
    )
