"""What was ended at the Account Manager is over at the Worker too, while its access token still lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from devstack.anvil import Anvil
from tests.integration.account_manager.conftest import request_nonce, sign, wallet
from tests.integration.account_manager.test_server_process import running_server
from tests.integration.worker.conftest import until
from tests.integration.worker.nodes import TEST_TYPES
from tradingflow.core.config import WorkerSettings
from tradingflow.py_worker.server import create_app

WITHIN_S = 5.0


@pytest.fixture
def account_manager(database_url: str, redis_url: str, rabbitmq_url: str, anvil: Anvil) -> Iterator[str]:
    """The Account Manager as a process of its own."""
    with running_server(database_url, redis_url, rabbitmq_url, anvil, CYCLE_PARTITIONS="4") as url:
        yield url


@pytest.fixture
def app(settings: WorkerSettings, account_manager: str) -> FastAPI:
    """A worker that checks real tokens with the Account Manager's keys."""
    jwks = f"{account_manager}/.well-known/jwks.json"
    return create_app(settings.model_copy(update={"jwks_url": jwks}), types=TEST_TYPES)


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://w") as http:
        yield http


@pytest.fixture
async def worker(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with started(app) as http:
        yield http


@dataclass
class Trader:
    accounts: httpx.AsyncClient
    tokens: dict[str, str]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens['access_token']}"}

    async def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        answer = await self.accounts.request(method, path, json=body, headers=self.headers)
        assert answer.is_success, answer.text
        return answer


@pytest.fixture
async def trader(account_manager: str) -> AsyncIterator[Trader]:
    async with httpx.AsyncClient(base_url=account_manager) as http:
        message = (await request_nonce(http, wallet(1)))["message"]
        answer = await http.post("/auth/login", json={"message": message, "signature": sign(wallet(1), message)})
        yield Trader(http, answer.json())


async def status_of(worker: httpx.AsyncClient, access_token: str) -> tuple[int, str | None]:
    answer = await worker.get("/flows", headers={"Authorization": f"Bearer {access_token}"})
    return answer.status_code, None if answer.is_success else answer.json()["error"]


async def refused_soon(worker: httpx.AsyncClient, access_token: str) -> None:
    async def refused() -> bool:
        return await status_of(worker, access_token) == (401, "session_over")

    await until(refused, WITHIN_S)


async def sign_out(trader: Trader) -> None:
    await trader.send("POST", "/auth/logout")


async def use_a_refresh_token_twice(trader: Trader) -> None:
    body = {"refresh_token": trader.tokens["refresh_token"]}
    await trader.send("POST", "/auth/refresh", body)
    assert (await trader.accounts.post("/auth/refresh", json=body)).status_code == 401


async def delete_the_account(trader: Trader) -> None:
    await trader.send("DELETE", "/users/me", {"confirm": wallet(1).address})


@pytest.mark.parametrize("end", [sign_out, use_a_refresh_token_twice, delete_the_account])
async def test_the_access_token_of_a_session_that_ended_is_refused(
    worker: httpx.AsyncClient, trader: Trader, end: Any
) -> None:
    token = trader.tokens["access_token"]
    assert await status_of(worker, token) == (200, None)
    await end(trader)
    await refused_soon(worker, token)


async def test_what_a_deleted_api_key_was_exchanged_for_is_refused_and_nothing_else(
    worker: httpx.AsyncClient, trader: Trader
) -> None:
    made = (
        await trader.send("POST", "/auth/api-keys", {"name": "bot", "scopes": ["read"], "expires_in_days": 1})
    ).json()
    exchanged = await trader.send("POST", "/auth/access-token", {"api_key": made["key"]})
    token = exchanged.json()["access_token"]
    assert await status_of(worker, token) == (200, None)
    await trader.send("DELETE", f"/auth/api-keys/{made['id']}")
    await refused_soon(worker, token)
    assert await status_of(worker, trader.tokens["access_token"]) == (200, None)


async def test_the_stream_of_a_session_that_ended_ends(app: FastAPI, worker: httpx.AsyncClient, trader: Trader) -> None:
    flow = {"nodes": [{"id": "a", "type": "emit", "config": {"value": 1}}], "edges": []}
    body = {"flow_id": "watched", "cycle_interval": "1d", "flow_json": flow}
    assert (await worker.put("/flows/watched", json=body, headers=trader.headers)).is_success
    # This transport hands an answer over once it is whole: the stream has ended by then.
    watching = asyncio.create_task(worker.get("/flows/watched/stream", headers=trader.headers))

    async def is_watched() -> bool:
        return bool(app.state.parts.streams.taken)

    await until(is_watched)
    await sign_out(trader)
    async with asyncio.timeout(2 * WITHIN_S):
        assert (await watching).text.startswith(": watching")


async def test_a_worker_that_starts_later_knows_of_it(app: FastAPI, trader: Trader) -> None:
    await sign_out(trader)
    async with started(app) as http:
        assert await status_of(http, trader.tokens["access_token"]) == (401, "session_over")
