"""`make chaos-worker`: workers are killed and servers restarted at random while cycles run.

Nothing may be lost, nothing may happen twice. Sizes by environment: CYCLES (2,000), KILLS (40), RESTARTS (4, of
RabbitMQ, PostgreSQL and Redis in turn, the Redis one after a FLUSHALL), WORKERS (4), SEED (1).
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import aio_pika
import asyncpg
from redis.asyncio import Redis

from bench.figure import Figures, progress
from bench.worker_control import ENDED, QUEUE
from bench.worker_world import Driver, WorkerEnded, WorkerProcess, World, world

CYCLES = int(os.environ.get("CYCLES", "2000"))
KILLS = int(os.environ.get("KILLS", "40"))
RESTARTS = int(os.environ.get("RESTARTS", "4"))
WORKERS = int(os.environ.get("WORKERS", "4"))
SEED = int(os.environ.get("SEED", "1"))
BATCH = 25
RESUME_LIMIT_S = 10.0
CONTROL_CHAINS = 300
SETTLE_S = 240.0

# The sink's database is one of the servers that are restarted: it must outlast that, under the same idempotency key.
RETRY = {"max_attempts": 20, "initial_interval_s": 0.5, "max_interval_s": 5}

GRAPH: dict[str, Any] = {
    "nodes": [
        {"id": "a", "type": "noop"},
        {"id": "left", "type": "wait", "config": {"seconds": 0.05}},
        {"id": "right", "type": "sink", "retry": RETRY},
        {"id": "join", "type": "noop"},
        {"id": "effect", "type": "sink", "retry": RETRY},
        {"id": "end", "type": "noop"},
    ],
    "edges": [
        {"source": s, "source_handle": "value", "target": t, "target_handle": h}
        for s, t, h in (
            ("a", "left", "value"), ("a", "right", "value"), ("left", "join", "many"), ("right", "join", "many"),
            ("join", "effect", "value"), ("effect", "end", "value"),
        )
    ],
}  # fmt: skip
SINKS = ("right", "effect")


class Chaos:
    def __init__(self, found: World, driver: Driver, dice: random.Random) -> None:
        self._world = found
        self._driver = driver
        self._dice = dice
        self._alive: list[WorkerProcess] = []
        self._starting: list[WorkerProcess] = []
        self.kills = 0
        self.outages: list[Outage] = []

    async def run(self, flow: UUID) -> None:
        """Open cycles in batches; between batches something dies."""
        self._starting = [self._world.spawn_worker() for _ in range(WORKERS)]
        while self._starting:
            await self._await_successor()
        steps = max(CYCLES // BATCH, 1)
        deaths = sorted(self._dice.choices(range(steps), k=KILLS))
        restarts = dict(zip(self._dice.sample(range(steps), k=min(RESTARTS, steps)), range(RESTARTS), strict=False))
        for step in range(steps):
            await again(lambda: self._driver.open_cycles(flow, BATCH))
            await asyncio.sleep(self._dice.uniform(0.05, 0.3))
            for _ in range(deaths.count(step)):
                await self._kill_one()
            if step in restarts:
                await self._restart(restarts[step])
        await again(lambda: self._driver.wait_for_end(SETTLE_S))

    async def stop(self) -> None:
        for worker in (*self._alive, *self._starting):
            await asyncio.to_thread(worker.stop)

    async def _kill_one(self) -> None:
        """Kill a ready worker while another is ready; its successor is started at once, as a supervisor would."""
        while len(self._alive) < 2:
            await self._await_successor()
        victim = self._alive.pop(self._dice.randrange(len(self._alive)))
        victim.kill()
        self.kills += 1
        self._starting.append(self._world.spawn_worker())

    async def _await_successor(self) -> None:
        successor = self._starting.pop(0)
        try:
            await asyncio.to_thread(successor.wait_until_ready)
        except WorkerEnded:  # a server was away just when it started: started again, as a supervisor would
            self._starting.append(self._world.spawn_worker())
        else:
            self._alive.append(successor)

    async def _restart(self, turn: int) -> None:
        name = ("rabbitmq", "postgres", "redis")[turn % 3]
        progress(f"restarting {name}")
        if name == "redis":
            async with Redis.from_url(self._world.redis.url) as client:
                await client.flushall()
        server = getattr(self._world, name)
        down = datetime.now(UTC)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        self.outages.append((down, datetime.now(UTC)))
        if name == "postgres":
            await self._driver.reconnect(self._world)


async def again(step: Callable[[], Awaitable[Any]]) -> Any:
    """The driver's own connection dies with PostgreSQL, too."""
    for _ in range(5):
        try:
            return await step()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(1)
    return await step()


Outage = tuple[datetime, datetime]


async def longest_gaps_s(driver: Driver, flow: UUID, outages: list[Outage]) -> list[float]:
    """The longest standstill of each cycle in seconds; the time a server itself was away does not count."""
    rows = await driver.fetch(
        "SELECT cycle, finished_at AS at FROM node_tasks WHERE flow_pk = $1 "
        "UNION ALL SELECT cycle, started_at FROM cycles WHERE flow_pk = $1 ORDER BY cycle, at",
        flow,
    )
    longest: dict[int, float] = {}
    for before, after in pairwise(rows):
        if before["cycle"] == after["cycle"]:
            gap = (after["at"] - before["at"]).total_seconds() - away_s(before["at"], after["at"], outages)
            longest[after["cycle"]] = max(longest.get(after["cycle"], 0.0), gap)
    return list(longest.values())


def away_s(begin: datetime, end: datetime, outages: list[Outage]) -> float:
    overlaps = ((min(end, up) - max(begin, down)).total_seconds() for down, up in outages)
    return sum(max(overlap, 0.0) for overlap in overlaps)


async def judge(driver: Driver, flow: UUID, figures: Figures, kills: int, outages: list[Outage]) -> None:
    rows = await driver.fetch("SELECT status, count(*) AS n FROM cycles WHERE flow_pk = $1 GROUP BY status", flow)
    statuses = {row["status"]: row["n"] for row in rows}
    opened = sum(statuses.values())
    lost = opened - statuses.get("completed", 0)
    unended = await driver.fetch(
        "SELECT count(*) AS n FROM node_tasks WHERE flow_pk = $1 AND status <> 'completed'", flow
    )
    tasks = await driver.fetch("SELECT count(*) AS n FROM node_tasks WHERE flow_pk = $1", flow)
    effects = await driver.fetch("SELECT count(*) AS n, count(DISTINCT key) AS keys FROM sink_effects")
    twice = tasks[0]["n"] - opened * len(GRAPH["nodes"]) + unended[0]["n"]
    doubled = effects[0]["n"] - opened * len(SINKS)
    gaps = sorted(await longest_gaps_s(driver, flow, outages))
    p99 = gaps[int(len(gaps) * 0.99)]
    more = {"cycles": opened, "kills": kills, "seed": SEED}
    figures.show("worker_cycles_lost", lost, "cycles", target="== 0", ok=lost == 0, **more)
    figures.show("worker_node_tasks_wrong", twice, "node tasks", target="== 0", ok=twice == 0)
    figures.show("worker_effects_doubled_or_lost", doubled, "effects", target="== 0", ok=doubled == 0)
    figures.show(
        "worker_resume_p99", p99, "s", target=f"<= {RESUME_LIMIT_S:g}", ok=p99 <= RESUME_LIMIT_S,
        worst_s=round(gaps[-1], 3), outages_s=[round((up - down).total_seconds(), 1) for down, up in outages],
    )  # fmt: skip


async def control(found: World, figures: Figures) -> None:
    """Kill the worker without acknowledgements and confirms while chains are under way: some must be missing."""
    connection = await aio_pika.connect(found.rabbitmq.url)
    channel = await connection.channel()
    for name in (QUEUE, ENDED):
        await channel.declare_queue(name, durable=True)
    for _ in range(CONTROL_CHAINS):
        await channel.default_exchange.publish(aio_pika.Message(b"10"), QUEUE)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.worker_control", env=found.environment, stdout=asyncio.subprocess.PIPE
    )
    if process.stdout is None or not await process.stdout.readline():
        raise RuntimeError("the control ended before it hopped")
    process.kill()
    await process.wait()
    left = await channel.declare_queue(QUEUE, durable=True, passive=True)
    ended = await channel.declare_queue(ENDED, durable=True, passive=True)
    arrived = (left.declaration_result.message_count or 0) + (ended.declaration_result.message_count or 0)
    await connection.close()
    lost = CONTROL_CHAINS - arrived
    figures.show("control_without_confirms_lost", lost, "chains", target="> 0", ok=lost > 0, chains=CONTROL_CHAINS)


async def main() -> int:
    figures, dice = Figures(), random.Random(SEED)  # noqa: S311 - a repeatable run, not a secret
    progress(f"seed {SEED}: {CYCLES} cycles, {KILLS} kills, {RESTARTS} restarts")
    with world() as found:
        driver = await Driver.connect(found)
        await driver.execute("CREATE TABLE sink_effects (key text NOT NULL)")
        await driver.execute("CREATE INDEX ON sink_effects (key)")
        found.extra_env["SINK_DSN"] = found.database_dsn
        flow = await driver.add_flow(GRAPH)
        chaos = Chaos(found, driver, dice)
        try:
            await chaos.run(flow)
        except TimeoutError:
            progress("some cycles did not end in time")
        await judge(driver, flow, figures, chaos.kills, chaos.outages)
        await chaos.stop()
        await control(found, figures)
        await driver.close()
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
