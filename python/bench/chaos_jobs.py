"""`make chaos-jobs`: kill -9 Celery workers in the middle of tasks while two beats tick; each effect happens once.

Sizes by environment: KILLS (10), SEED (1), BEATS_S (20): seconds that two beats tick over an undisturbed worker. Each
kill comes while a receiver holds a webhook's POST, so that the worker is inside a task for certain, and while a trade
is under way. Every second kill takes the whole worker, the others one of the processes that run its tasks.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from aiohttp import web
from sqlalchemy import select, update

from bench.figure import Figures, progress
from bench.trade_victims import quiet_logs
from devstack.anvil import CHAIN_ID
from devstack.daemon import Daemon
from devstack.executor_world import ONE_QUOTE, OPERATOR_INDEX, World, executor_world, operator_key
from devstack.private_servers import PrivateServers
from devstack.proc import descendants
from tradingflow.account_manager.schedule import TICKS
from tradingflow.core.config import LOCAL_CREDENTIALS_KEY
from tradingflow.core.sealing import Sealer
from tradingflow.db.models import (
    ChainCursor,
    ContractEvent,
    EventSubscription,
    JobRun,
    MonitoredContract,
    NotificationChannel,
    NotificationDelivery,
)

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON_ROOT = REPOSITORY / "python"
KILLS = int(os.environ.get("KILLS") or 10)
SEED = int(os.environ.get("SEED") or 1)
BEATS_S = float(os.environ.get("BEATS_S") or 20)
CELERY = (sys.executable, "-m", "celery", "-A", "tradingflow.account_manager.celery_worker")
HOLD_S = 0.3
WAIT_S = 180.0
POOL_PROCESSES = 2


@dataclass
class Receiver:
    """Holds every POST for a moment; counts what it was told by `webhook-id`, and by event."""

    port: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    times_told: Counter[str] = field(default_factory=Counter)
    ids_of_event: dict[str, set[str]] = field(default_factory=dict)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.arrived.set()
        await asyncio.sleep(HOLD_S)
        identity = request.headers["webhook-id"]
        self.times_told[identity] += 1
        self.ids_of_event.setdefault(body["data"]["event_id"], set()).add(identity)
        return web.Response()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    double = Receiver()
    app = web.Application()
    app.router.add_post("/", double.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    double.port = runner.addresses[0][1]
    yield double
    await runner.cleanup()


class Chaos:
    def __init__(self, world: World, told: Receiver, environment: dict[str, str], directory: Path) -> None:
        self._world = world
        self._told = told
        self._environment = environment
        self._directory = directory
        self._random = random.Random(SEED)  # noqa: S311 - repeatable, not secret
        self.worker = self._start("worker", "--concurrency", str(POOL_PROCESSES))
        self.beats = [self._start("beat"), self._start("beat")]
        self.trades: list[str] = []
        self.events = 0
        self.kills = 0

    def _start(self, role: str, *options: str) -> Daemon:
        daemon = Daemon(role, self._directory / f"{role}-{uuid4().hex[:8]}")
        daemon.spawn([*CELERY, role, *options], env=self._environment, cwd=self._directory)
        return daemon

    async def subscribe(self) -> None:
        """A webhook of the world's user for the events of its vault."""
        channel_id, now = uuid4(), datetime.now(UTC)
        sealed = Sealer(LOCAL_CREDENTIALS_KEY).seal(b"0" * 32, channel_id, self._world.user_id)
        place = {"chain_id": CHAIN_ID, "address": self._world.vault}
        async with self._world.sessions.begin() as session:
            session.add(ChainCursor(chain_id=CHAIN_ID, next_block=0, next_final_block=0, updated_at=now))
            session.add(MonitoredContract(**place, kind="other", from_block=0, live_from=0, history_next=0))
            session.add(
                NotificationChannel(
                    id=channel_id,
                    user_id=self._world.user_id,
                    kind="webhook",
                    target=f"http://127.0.0.1:{self._told.port}/",
                    topics=[],
                    key_id=sealed.key_id,
                    sealed=sealed.data,
                    status="active",
                )
            )
            await session.flush()
            session.add(EventSubscription(channel_id=channel_id, **place, certainty="final", next_block=0))

    async def kill_in_the_middle(self) -> None:
        """One event and one trade; the kill comes while the event is being told."""
        self._told.arrived.clear()
        await self._happen()
        self.trades.append(await self._world.request_trade(ONE_QUOTE))
        await asyncio.wait_for(self._told.arrived.wait(), WAIT_S)
        await asyncio.sleep(self._random.uniform(0, HOLD_S))
        self._kill(whole=self.kills % 2 == 0)
        self.kills += 1

    async def _happen(self) -> None:
        """Store one event, as the Monitor does."""
        number = self.events
        self.events += 1
        async with self._world.sessions.begin() as session:
            session.add(
                ContractEvent(
                    chain_id=CHAIN_ID,
                    block_number=number,
                    log_index=0,
                    block_hash="0x" + number.to_bytes(32).hex(),
                    transaction_hash="0x" + number.to_bytes(32).hex(),
                    address=self._world.vault,
                    kind="other",
                    name="Something",
                    args={},
                    topics=[],
                    data=b"",
                    block_time=datetime.now(UTC),
                )
            )
            await session.execute(update(ChainCursor).values(next_block=number + 1, next_final_block=number + 1))

    def _kill(self, *, whole: bool) -> None:
        pid = self.worker.pid
        if whole or pid is None:
            self.worker.kill()
            self.worker = self._start("worker", "--concurrency", str(POOL_PROCESSES))
        elif pool := descendants(pid):
            self._random.choice(pool).send(9)

    async def settle(self) -> None:
        """Until all is told and all trades are settled, or WAIT_S is over."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and not (await self._all_told() and await self._all_traded()):  # noqa: ASYNC110
            await asyncio.sleep(0.5)  # other processes do the work: there is no event to wait for

    async def _all_told(self) -> bool:
        async with self._world.sessions() as session:
            states = list(await session.scalars(select(NotificationDelivery.status)))
        return len(states) == self.events and set(states) == {"delivered"}

    async def _all_traded(self) -> bool:
        return all([(await self._world.trade(identity)).settled_at is not None for identity in self.trades])

    async def runs(self) -> dict[str, int]:
        async with self._world.sessions() as session:
            return {run.name: run.runs for run in await session.scalars(select(JobRun))}

    def stop(self) -> None:
        for daemon in (*self.beats, self.worker):
            daemon.kill()


async def show_kills(chaos: Chaos, world: World, told: Receiver, figures: Figures) -> None:
    async with world.sessions() as session:
        deliveries = list(await session.scalars(select(NotificationDelivery)))
    executed = Counter(await world.all_executions())
    _none(figures, "job_notices_lost", chaos.events - len(told.ids_of_event))
    _none(figures, "job_notices_written_twice", len(deliveries) - chaos.events)
    _none(figures, "job_notices_under_two_ids", sum(len(ids) > 1 for ids in told.ids_of_event.values()))
    _none(figures, "job_notices_not_recorded", sum(d.status != "delivered" for d in deliveries))
    repeated = sum(times - 1 for times in told.times_told.values())
    ok = repeated <= chaos.kills
    figures.show("job_posts_repeated_under_one_id", repeated, "posts", target="<= 1 a kill", ok=ok)
    _none(figures, "job_trades_doubled", sum(times > 1 for times in executed.values()))
    _none(figures, "job_trades_lost", sum(executed[identity] != 1 for identity in chaos.trades))
    figures.show("job_worker_kills", chaos.kills, "kills", target=f"== {KILLS}", ok=chaos.kills == KILLS)


async def show_beats(chaos: Chaos, figures: Figures) -> None:
    """What ran more often than its period allows, while two beats ticked."""
    before, began = await chaos.runs(), time.monotonic()
    await asyncio.sleep(BEATS_S)
    after, elapsed = await chaos.runs(), time.monotonic() - began
    ran = {name: after[name] - before.get(name, 0) for name in after if name in TICKS}
    allowed = {name: elapsed / TICKS[name].every.total_seconds() * 1.05 + 1 for name in ran}
    _none(figures, "beat_jobs_doubled", sum(ran[name] > allowed[name] for name in ran))
    quickest = ran.get("notification.collect", 0)
    least = elapsed / 3
    figures.show("beat_runs_of_a_1s_job", quickest, "runs", target=f">= {least:.0f}", ok=quickest >= least)


def _none(figures: Figures, name: str, value: int) -> None:
    figures.show(name, value, "cases", target="== 0", ok=value == 0)


async def run(servers: PrivateServers, directory: Path, figures: Figures) -> None:
    with (
        servers.fresh_chain() as anvil,
        servers.fresh_database() as database_url,
        servers.fresh_redis() as redis_url,
        servers.fresh_virtual_host() as rabbitmq_url,
    ):
        async with executor_world(anvil, database_url, REPOSITORY) as world, receiver() as told:
            environment = {
                **os.environ,
                "DATABASE_URL": database_url,
                "REDIS_URL": redis_url,
                "RABBITMQ_URL": rabbitmq_url,
                "CHAINS": "[" + ",".join(chain.model_dump_json() for chain in world.settings.chains) + "]",
                "OPERATOR_PRIVATE_KEY": operator_key(OPERATOR_INDEX),
                "OUTBOUND_ALLOWED": '["127.0.0.1/32"]',
                "PYTHONPATH": str(PYTHON_ROOT),
            }
            chaos = Chaos(world, told, environment, directory)
            try:
                await chaos.subscribe()
                await _through_it(chaos, world, told, figures)
            finally:
                chaos.stop()


async def _through_it(chaos: Chaos, world: World, told: Receiver, figures: Figures) -> None:
    for number in range(1, KILLS + 1):
        await chaos.kill_in_the_middle()
        progress(f"kill {number} of {KILLS}")
    await chaos.settle()
    await show_kills(chaos, world, told, figures)
    await show_beats(chaos, figures)


def main() -> int:
    quiet_logs()
    progress(f"seed {SEED}")
    figures = Figures()
    with PrivateServers(REPOSITORY) as servers, tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(servers, Path(directory), figures))
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
