"""The worker on real PostgreSQL, Redis and RabbitMQ, spoken to over HTTP (ASGI), with nodes made for testing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.worker.nodes import TEST_TYPES
from tradingflow.core.access_token import Principal
from tradingflow.core.config import WorkerSettings
from tradingflow.core.errors import Unauthenticated
from tradingflow.db.engine import SessionFactory, make_engine, make_session_factory
from tradingflow.db.models import User
from tradingflow.py_worker.server import create_app

DEADLINE_S = 90.0


class UserIsToken:
    """Test credential: the user id itself. The real verifier has its own tests."""

    async def authenticate(self, credential: str) -> Principal:
        try:
            user_id = UUID(credential)
        except ValueError as error:
            raise Unauthenticated("invalid_token", "not a user id") from error
        return Principal(user_id, "0x" + "00" * 20, uuid4())


@dataclass
class Client:
    """A signed-in caller."""

    http: httpx.AsyncClient
    user_id: UUID

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self.http.get(path, params=params, headers=self.headers)

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        return await self.http.post(path, json=body, headers=self.headers)

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(method, path, json=body, headers=self.headers)
        assert answer.is_success, answer.text
        return answer.json()

    async def execute(self, flow_id: str, nodes: list[Any], edges: list[Any], **more: Any) -> Any:
        body = {"flow_id": flow_id, "cycle_interval": 0, "flow_json": {"nodes": nodes, "edges": edges}, **more}
        return await self.ok("POST", "/flows/execute", body)

    async def cycle_end(self, flow_id: str, cycle: int = 0) -> Any:
        """The cycle with its node tasks, once it has ended."""

        async def ended() -> Any:
            answer = await self.get(f"/flows/{flow_id}/cycles/{cycle}")
            return answer.json() if answer.is_success and answer.json()["status"] != "running" else None

        return await until(ended)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.user_id}"}


async def until(probe: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """The first true answer of `probe`; fails the test when none comes in time."""
    async with asyncio.timeout(deadline_s):
        while not (answer := await probe()):  # noqa: ASYNC110 - a row in a database sets no event
            await asyncio.sleep(0.02)
    return answer


def tasks_by_node(cycle: Any) -> dict[str, Any]:
    return {task["node_id"]: task for task in cycle["node_tasks"]}


class StartWorker(Protocol):
    def __call__(self, **settings: Any) -> AbstractAsyncContextManager[FastAPI]: ...


@pytest.fixture
def settings(database_url: str, redis_url: str, rabbitmq_url: str) -> WorkerSettings:
    return WorkerSettings(
        _env_file=None,  # type: ignore[call-arg]
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        rabbitmq_url=SecretStr(rabbitmq_url),
        cycle_partitions=4,
        sandbox_processes=1,
    )


@pytest.fixture
def start_worker(settings: WorkerSettings) -> StartWorker:
    @asynccontextmanager
    async def start(**changes: Any) -> AsyncIterator[FastAPI]:
        app = create_app(settings.model_copy(update=changes), types=TEST_TYPES, authenticator=UserIsToken())
        async with app.router.lifespan_context(app):
            yield app

    return start


@pytest.fixture
async def engine(settings: WorkerSettings) -> AsyncIterator[AsyncEngine]:
    engine = make_engine(settings, application="test")
    yield engine
    await engine.dispose()


@pytest.fixture
def sessions(engine: AsyncEngine) -> SessionFactory:
    return make_session_factory(engine)


@pytest.fixture
def add_user(sessions: SessionFactory) -> Callable[[], Any]:
    async def add() -> UUID:
        user = User(id=uuid4())
        async with sessions.begin() as session:
            session.add(user)
        return user.id

    return add


@pytest.fixture
async def worker(start_worker: StartWorker) -> AsyncIterator[FastAPI]:
    async with start_worker() as app:
        yield app


@pytest.fixture
async def http(worker: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=worker)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        yield client


@pytest.fixture
async def client(http: httpx.AsyncClient, add_user: Callable[[], Any]) -> Client:
    return Client(http, await add_user())


@pytest.fixture
async def stranger(http: httpx.AsyncClient, add_user: Callable[[], Any]) -> Client:
    return Client(http, await add_user())
