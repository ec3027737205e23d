"""A receiver, and the jobs that tell it of things: what tests of notices share."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from aiohttp import web
from pydantic import SecretStr
from sqlalchemy import delete, update

from devstack.anvil import CHAIN_ID
from tests.integration.account_manager.conftest import Session
from tests.integration.account_manager.test_history_routes import POOL, START, event
from tests.integration.account_manager.test_history_routes import flow as flow  # noqa: PLC0414 - the fixture
from tests.integration.local_server import LocalServer
from tests.integration.local_server import server as server  # noqa: PLC0414 - the fixture
from tradingflow.account_manager.notification.collector import Collector
from tradingflow.account_manager.notification.delivery import Deliverer
from tradingflow.account_manager.parts import Parts
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.config import AccountManagerSettings, ExecutorSettings
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import (
    ChainCursor,
    ContractEvent,
    MonitoredContract,
)
from tradingflow.outbound.client import GuardedHttp

HEAD, FINAL = 100, 90


@dataclass
class Post:
    """The jobs as Celery runs them, and a receiver."""

    sessions: SessionFactory
    settings: ExecutorSettings
    clock: SimulatedClock
    http: GuardedHttp
    receiver: LocalServer

    async def collect(self) -> None:
        await Collector(self.sessions, self.clock).collect()

    async def deliver(self) -> int:
        return await Deliverer(self.sessions, self.settings, self.http, self.clock).run()

    async def both(self) -> list[dict[str, Any]]:
        """What the receiver was told by one round."""
        before = len(self.receiver.bodies)
        await self.collect()
        await self.deliver()
        return [json.loads(body) for body in self.receiver.bodies[before:]]

    def later(self, pause: timedelta) -> None:
        self.clock.advance_to(self.clock.now() + pause)

    def answer(self, status: int, **headers: str) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, headers=headers, text="as you wish")

        self.receiver.answer = answer


@pytest.fixture
async def post(
    settings: AccountManagerSettings, sessions: SessionFactory, clock: SimulatedClock, server: LocalServer, parts: Parts
) -> AsyncIterator[Post]:
    executor = ExecutorSettings(
        database_url=SecretStr(settings.database_dsn),
        chains=settings.chains,
        telegram_bot_token=SecretStr("123:bot-secret"),
        telegram_url=server.url("").rstrip("/"),
    )
    http = GuardedHttp(allowed=[ip_network("127.0.0.1/32")])
    async with sessions.begin() as session:
        session.add(ChainCursor(chain_id=CHAIN_ID, next_block=HEAD, next_final_block=FINAL, updated_at=START))
        session.add(monitored(POOL))
    yield Post(sessions, executor, clock, http, server)
    await http.close()


def monitored(address: str, **changes: Any) -> MonitoredContract:
    fields = {"kind": "pool", "from_block": 0, "live_from": 0, "history_next": 0, **changes}
    return MonitoredContract(chain_id=CHAIN_ID, address=address, **fields)


async def add_webhook(session: Session, post: Post, **changes: Any) -> dict[str, Any]:
    answer = await session.post("/webhooks", {"url": post.receiver.url("/hook?key=1"), **changes})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def subscribe(session: Session, hook: dict[str, Any], **changes: Any) -> httpx.Response:
    body = {"chain_id": CHAIN_ID, "address": POOL, **changes}
    return await session.post(f"/webhooks/{hook['id']}/events", body)


async def deliveries(session: Session, hook: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await session.get(f"/webhooks/{hook['id']}/deliveries", **query)).json()["items"]
    return found


async def store(sessions: SessionFactory, *blocks: int, fork: int = 0, final: int = FINAL, head: int = HEAD) -> None:
    """As the Monitor does: the events and the cursor in one transaction."""
    async with sessions.begin() as session:
        for block in blocks:
            row = event(POOL, block, "Swap")
            row.block_hash = "0x" + (block + 1_000_000 * fork).to_bytes(32).hex()
            session.add(row)
        await session.execute(update(ChainCursor).values(next_block=head, next_final_block=final))


async def roll_back(sessions: SessionFactory, ancestor: int) -> None:
    async with sessions.begin() as session:
        await session.execute(delete(ContractEvent).where(ContractEvent.block_number > ancestor))
        await session.execute(update(ChainCursor).values(next_block=ancestor + 1))
