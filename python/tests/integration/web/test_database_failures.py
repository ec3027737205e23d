"""A PostgreSQL that is away, full, read-only or contended is a 503 that says so, for routes on either driver path."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from devstack.ports import free_port
from tradingflow.web.errors import install_error_handlers


def app_over(engine: AsyncEngine, dsn: str) -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/session")
    async def through_sqlalchemy(statement: str) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(statement))

    @app.get("/driver")
    async def through_asyncpg(statement: str) -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    return app


@asynccontextmanager
async def client_of(url: str, **engine_options: object) -> AsyncIterator[httpx.AsyncClient]:
    engine = create_async_engine(url, **engine_options)
    app = app_over(engine, url.replace("+asyncpg", ""))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
    await engine.dispose()


@pytest.mark.parametrize("route", ["/session", "/driver"])
async def test_nobody_listens(route: str) -> None:
    async with client_of(f"postgresql+asyncpg://a:b@127.0.0.1:{free_port()}/c") as client:
        answer = await client.get(route, params={"statement": "SELECT 1"})
    assert (answer.status_code, answer.json()["error"]) == (503, "database_unavailable")


@pytest.mark.parametrize("route", ["/session", "/driver"])
@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", "database_unavailable"),
        ("DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$", "database_unavailable"),
        ("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = 'deadlock_detected'; END $$", "database_busy"),
        ("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = 'lock_not_available'; END $$", "database_busy"),
    ],
)
async def test_what_passes_by_itself(database_url: str, route: str, statement: str, code: str) -> None:
    async with client_of(database_url) as client:
        answer = await client.get(route, params={"statement": statement})
    assert (answer.status_code, answer.json()["error"]) == (503, code)


async def test_a_read_only_database(database_url: str) -> None:
    read_only = {"server_settings": {"default_transaction_read_only": "on"}}
    async with client_of(database_url, connect_args=read_only) as client:
        answer = await client.get("/session", params={"statement": "CREATE TABLE refused ()"})
    assert (answer.status_code, answer.json()["error"]) == (503, "database_read_only")


async def test_every_connection_in_use(database_url: str) -> None:
    engine = create_async_engine(database_url, pool_size=1, max_overflow=0, pool_timeout=0.01)
    app = app_over(engine, "")
    async with (
        engine.connect(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        answer = await client.get("/session", params={"statement": "SELECT 1"})
    await engine.dispose()
    assert (answer.status_code, answer.json()["error"]) == (503, "database_busy")


@pytest.mark.parametrize("route", ["/session", "/driver"])
async def test_a_mistake_of_ours_stays_a_500(database_url: str, route: str) -> None:
    async with client_of(database_url) as client:
        answer = await client.get(route, params={"statement": "SELEC 1"})
    assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
