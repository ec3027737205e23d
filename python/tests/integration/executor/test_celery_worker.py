"""The Celery worker and beat as processes of their own: requests come in by RabbitMQ, work comes out on chain."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from devstack.daemon import Daemon
from devstack.executor_world import ONE_QUOTE, OPERATOR_INDEX, World, operator_key
from devstack.ports import LOOPBACK, free_port
from tradingflow.account_manager.job_queue import JobQueue
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.messages import TradeRequested, encode
from tradingflow.messaging.topology import TRADE_REQUESTS, TRADES

PYTHON_ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 120.0
CELERY = (sys.executable, "-m", "celery", "-A", "tradingflow.account_manager.celery_worker")

StartCelery = Callable[[str], Daemon]


@pytest.fixture
def environment(world: World, database_url: str, redis_url: str, rabbitmq_url: str) -> dict[str, str]:
    chains = "[" + ",".join(chain.model_dump_json() for chain in world.settings.chains) + "]"
    return {
        **os.environ,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "RABBITMQ_URL": rabbitmq_url,
        "CHAINS": chains,
        "OPERATOR_PRIVATE_KEY": operator_key(OPERATOR_INDEX),
        "CELERY_WORKER_PORT": str(free_port()),
        "CELERY_BEAT_PORT": str(free_port()),
    }


@pytest.fixture
def celery(environment: dict[str, str], tmp_path: Path) -> Iterator[StartCelery]:
    """Starts `celery -A tradingflow.account_manager.celery_worker <role>` as the README does."""
    started: list[Daemon] = []

    def start(role: str) -> Daemon:
        daemon = Daemon(role, tmp_path / f"{role}-{len(started)}")
        daemon.spawn([*CELERY, role], env=environment, cwd=PYTHON_ROOT)
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        daemon.stop(timeout_s=20)


async def eventually(check: Callable[[], Awaitable[bool]], daemon: Daemon) -> None:
    deadline = time.monotonic() + WAIT_S
    while not await check():
        assert time.monotonic() < deadline, daemon.log_tail(60)
        await asyncio.sleep(0.1)


async def test_trade_request_over_rabbitmq_is_mined_and_settled(
    world: World, rabbitmq_url: str, celery: StartCelery
) -> None:
    worker = celery("worker")
    identity = await world.request_trade(10 * ONE_QUOTE)
    async with Broker(rabbitmq_url, name="test", partitions=16) as broker:
        body = encode(TradeRequested(trade_id=identity))
        await broker.publish(TRADES, TRADE_REQUESTS, body, message_id=identity)

        async def is_completed() -> bool:
            return (await world.trade(identity)).status == "completed"

        await eventually(is_completed, worker)
    assert await world.executions(identity) == 1


async def test_beat_finds_a_trade_whose_message_was_lost(world: World, celery: StartCelery) -> None:
    worker = celery("worker")
    celery("beat")
    identity = await world.request_trade(10 * ONE_QUOTE)

    async def is_completed() -> bool:
        return (await world.trade(identity)).status == "completed"

    await eventually(is_completed, worker)
    assert await world.executions(identity) == 1


async def test_worker_killed_mid_task_leaves_its_trade_to_the_next_one(
    world: World, rabbitmq_url: str, celery: StartCelery
) -> None:
    world.anvil.rpc("evm_setAutomine", False)
    first = celery("worker")
    identity = await world.request_trade(10 * ONE_QUOTE)
    async with Broker(rabbitmq_url, name="test", partitions=16) as broker:
        body = encode(TradeRequested(trade_id=identity))
        await broker.publish(TRADES, TRADE_REQUESTS, body, message_id=identity)

    async def is_submitted() -> bool:
        return (await world.trade(identity)).status == "submitted"

    await eventually(is_submitted, first)
    first.kill()
    world.anvil.rpc("evm_setAutomine", True)
    world.anvil.rpc("evm_mine")
    second = celery("worker")
    celery("beat")
    await eventually(lambda: is_settled(world, identity), second)
    assert await world.executions(identity) == 1
    assert len(await world.transactions(identity)) == 1


async def test_two_beats_and_two_workers_double_nothing(world: World, celery: StartCelery) -> None:
    identities = [await world.request_trade(ONE_QUOTE) for _ in range(5)]
    worker = celery("worker")
    for role in ("worker", "beat", "beat"):
        celery(role)
    for identity in identities:
        await eventually(lambda identity=identity: is_settled(world, identity), worker)  # type: ignore[misc]
    for identity in identities:
        assert await world.executions(identity) == 1
        assert [t.status for t in await world.transactions(identity)] == ["mined"]
    assert len(await world.told()) == len(identities)


async def test_worker_and_beat_tell_prometheus_what_becomes_of_tasks(
    environment: dict[str, str], celery: StartCelery
) -> None:
    worker, beat = celery("worker"), celery("beat")

    async def has_swept() -> bool:
        labels = {"task": "trade.sweep", "outcome": "succeeded"}
        return (await metric(environment["CELERY_WORKER_PORT"], "celery_tasks_total", labels) or 0) > 2

    async def ticks() -> bool:
        idle_s = await metric(environment["CELERY_BEAT_PORT"], "celery_beat_idle_seconds", {})
        return idle_s is not None and idle_s < 5

    await eventually(has_swept, worker)
    await eventually(ticks, beat)
    assert await metric(environment["CELERY_WORKER_PORT"], "celery_beat_idle_seconds", {}) is None
    took = await metric(environment["CELERY_WORKER_PORT"], "celery_task_duration_seconds_sum", {"task": "trade.sweep"})
    assert took is not None
    assert 0 < took < WAIT_S


async def metric(port: str, name: str, labels: dict[str, str]) -> float | None:
    """A sample of what the process that listens there tells; None while it says nothing of it."""
    try:
        text = (await asyncio.to_thread(urlopen, f"http://{LOOPBACK}:{port}/metrics", timeout=10)).read().decode()
    except URLError:
        return None
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return next((sample.value for sample in samples if (sample.name, sample.labels) == (name, labels)), None)


async def is_settled(world: World, identity: str) -> bool:
    return (await world.trade(identity)).settled_at is not None


async def test_vault_is_deployed_and_verified_by_task(world: World, rabbitmq_url: str, celery: StartCelery) -> None:
    worker = celery("worker")
    deployment_id = await world.queue_deployment("a")
    jobs = JobQueue(rabbitmq_url)
    await jobs.send("vault.deploy", str(deployment_id))
    jobs.close()

    async def is_verified() -> bool:
        return (await world.deployment(deployment_id)).status == "verified"

    await eventually(is_verified, worker)
    deployment = await world.deployment(deployment_id)
    vaults = await world.vaults()
    assert deployment.predicted_address in {vault.address for vault in vaults}


def test_worker_refuses_to_start_with_a_broken_key_and_does_not_repeat_it(environment: dict[str, str]) -> None:
    broken = {**environment, "OPERATOR_PRIVATE_KEY": "0xnot-a-key-but-secret"}
    command = [sys.executable, "-m", "celery", "-A", "tradingflow.account_manager.celery_worker", "worker"]
    ended = subprocess.run(
        command, env=broken, cwd=PYTHON_ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert "operator key" in ended.stdout + ended.stderr
    assert "but-secret" not in ended.stdout + ended.stderr
