"""Several workers: they share the partitions, take over from each other and lose nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import select

from tests.integration.worker.conftest import Client, StartWorker, until
from tests.integration.worker.nodes import edge, node
from tradingflow.core.config import WorkerSettings
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Cycle, NodeTask
from tradingflow.py_worker.runtime import conductor
from tradingflow.py_worker.runtime.membership import owners

CHAIN = [node("a", "emit"), node("b", "pass"), node("c", "pass")]
EDGES = [edge("a", "b"), edge("b", "c")]


def client_of(app: FastAPI, user_id: Any) -> Client:
    transport = httpx.ASGITransport(app=app)
    return Client(httpx.AsyncClient(transport=transport, base_url="http://worker"), user_id)


async def workers_seen(sessions: SessionFactory) -> set[str | None]:
    async with sessions() as session:
        return set(await session.scalars(select(NodeTask.worker_id).distinct()))


async def test_the_registry_lists_live_workers_with_their_load(
    start_worker: StartWorker, add_user: Callable[[], Any]
) -> None:
    user = await add_user()
    async with start_worker(worker_id="one"), start_worker(worker_id="two") as app:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as http:
            client = Client(http, user)

            async def shared() -> Any:
                workers = await client.ok("GET", "/worker/registry")
                return workers if [w["partitions"] for w in workers] == [2, 2] else None

            workers = await until(shared)
    assert [worker["worker_id"] for worker in workers] == ["one", "two"]
    assert workers[0]["slots"] == 1000


@pytest.mark.parametrize("flush", [False, True])
async def test_two_workers_share_the_partitions_and_one_takes_over_when_the_other_leaves(
    start_worker: StartWorker,
    sessions: SessionFactory,
    add_user: Callable[[], Any],
    settings: WorkerSettings,
    flush: bool,
) -> None:
    """Redis may lose its data in between: it only balances."""
    async with start_worker(worker_id="one") as first:
        client = client_of(first, await add_user())
        async with start_worker(worker_id="two"):
            await client.execute("shared", CHAIN, EDGES, cycle_interval="0.1s")

            async def both() -> bool:
                return await workers_seen(sessions) == {"one", "two"}

            await until(both, 60)
            if flush:
                async with Redis.from_url(settings.redis_dsn) as redis:
                    await redis.flushdb()
        seen = await client.ok("GET", "/flows/shared/status")
        await until(lambda: _cycles_past(client, seen["cycles"] + 5), 60)
        await client.ok("POST", "/flows/shared/stop")
        await client.http.aclose()
    async with sessions() as session:
        statuses = list(await session.scalars(select(Cycle.status)))
    assert statuses.count("completed") >= len(statuses) - 1
    assert "failed" not in statuses


async def _cycles_past(client: Client, number: int) -> bool:
    status = await client.ok("GET", "/flows/shared/status")
    return bool(status["cycles"] > number)


async def test_two_schedulers_never_double_a_cycle(
    start_worker: StartWorker, sessions: SessionFactory, add_user: Callable[[], Any]
) -> None:
    async with start_worker(worker_id="one") as first, start_worker(worker_id="two") as second:
        client = client_of(first, await add_user())
        flows = [f"f{i}" for i in range(20)]
        await asyncio.gather(*(client.execute(name, CHAIN[:1], []) for name in flows))
        schedulers = [app.state.parts.scheduler for app in (first, second)]
        await asyncio.gather(*(scheduler.tick() for scheduler in schedulers * 5))
        for name in flows:
            assert (await client.cycle_end(name))["status"] == "completed"
        await client.http.aclose()
    async with sessions() as session:
        assert len(list(await session.scalars(select(Cycle.cycle)))) == len(flows)


async def test_a_node_that_waits_long_holds_no_message_and_its_cycle_still_ends(
    start_worker: StartWorker, add_user: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "PARKED_AFTER_S", 0.1)
    async with start_worker() as app:
        client = client_of(app, await add_user())
        nodes = [node("a", "emit"), node("slow", "sleep", {"seconds": 3}), node("after", "pass")]
        await client.execute("patient", nodes, [edge("a", "slow"), edge("slow", "after")])
        parts = app.state.parts

        async def parked() -> bool:
            return bool(parts.worker.slots.taken == 1 and parts.worker.consumer.under_way == 0)

        await until(parked)
        assert (await client.cycle_end("patient"))["status"] == "completed"
        await client.http.aclose()


def test_partitions_are_shared_evenly_and_few_move_when_a_worker_is_lost() -> None:
    before, after = owners(64, ("a", "b", "c")), owners(64, ("a", "c"))
    assert {before.count(worker) for worker in "abc"} <= {20, 21, 22}
    assert after.count("a") == after.count("c") == 32
    moved = sum(old != new for old, new in zip(before, after, strict=True) if old != "b")
    assert moved <= 8
