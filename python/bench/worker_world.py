"""Durable private servers, worker processes and a driver that opens cycles by the thousand."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx

from devstack.ports import free_port
from devstack.postgres import PostgresServer
from devstack.private_servers import migrate
from devstack.rabbitmq import RabbitMQPorts, RabbitMQServer
from devstack.redis import RedisServer
from tradingflow.core.ids import cycle_partition
from tradingflow.messaging.messages import CycleStarted, encode
from tradingflow.messaging.topology import CYCLES, partition_queue

REPOSITORY = Path(__file__).resolve().parents[2]
PARTITIONS = 16
# A machine that also runs everything else starts a process slowly.
READY_S = 180.0


class WorkerEnded(Exception):
    """The process ended while it started; the text is the end of its log."""


@dataclass
class WorkerProcess:
    """One worker; `kill` is SIGKILL, `stop` the graceful way."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def memory_mb(self) -> float:
        """Resident memory at its highest."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise WorkerEnded(self.log.read_text()[-2000:])
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=2).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise RuntimeError(f"the worker on port {self.port} was not ready: {self.log.read_text()[-2000:]}")


@dataclass
class World:
    """Servers with production durability, and the workers on them."""

    postgres: PostgresServer
    redis: RedisServer
    rabbitmq: RabbitMQServer
    folder: Path
    workers: list[WorkerProcess] = field(default_factory=list)
    extra_env: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **self.extra_env,
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "RABBITMQ_URL": self.rabbitmq.url,
            "CYCLE_PARTITIONS": str(PARTITIONS),
            "CHAINS": "[]",
            "LOG_LEVEL": "WARNING",
        }

    @property
    def database_dsn(self) -> str:
        return self.postgres.url.replace("+asyncpg", "")

    def spawn_worker(self, **env: str) -> WorkerProcess:
        port = free_port()
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker_process"],
                cwd=REPOSITORY / "python",
                env={**self.environment, "PY_WORKER_PORT": str(port), **env},
                stdout=output,
                stderr=output,
            )
        worker = WorkerProcess(process, port, log)
        self.workers.append(worker)
        return worker

    def kill_workers(self) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill()

    @contextmanager
    def worker(self, **env: str) -> Iterator[WorkerProcess]:
        worker = self.spawn_worker(**env)
        try:
            worker.wait_until_ready()
            yield worker
        finally:
            worker.stop()


@contextmanager
def world() -> Iterator[World]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tradingflow-bench-")))
        folder.chmod(0o711)
        postgres = PostgresServer(folder / "postgres", free_port(), durable=True)
        redis = RedisServer(folder / "redis", free_port())
        rabbitmq = RabbitMQServer(
            folder / "rabbitmq", RabbitMQPorts(free_port(), free_port(), free_port(), free_port())
        )
        for server in (postgres, redis, rabbitmq):
            stack.callback(server.discard)
            server.start()
        migrate(REPOSITORY, postgres.url)
        found = World(postgres, redis, rabbitmq, folder)
        stack.callback(found.kill_workers)
        yield found


class Driver:
    """Opens cycles straight in the database, as the scheduler does, and waits for their ends."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._db = connection
        self._next: dict[UUID, int] = {}

    @classmethod
    async def connect(cls, world: World) -> Driver:
        return cls(await asyncpg.connect(world.database_dsn))

    async def close(self) -> None:
        await self._db.close()

    async def reconnect(self, world: World) -> None:
        """After PostgreSQL was restarted."""
        self._db = await asyncpg.connect(world.database_dsn)

    async def add_user(self) -> UUID:
        user = uuid4()
        await self._db.execute("INSERT INTO users (id) VALUES ($1)", user)
        return user

    async def add_flow(self, graph: dict[str, Any], user: UUID | None = None) -> UUID:
        flow = uuid4()
        owner = user or await self.add_user()
        async with self._db.transaction():
            await self._db.execute(
                "INSERT INTO flows (id, user_id, flow_id, status, mode, current_version) "
                "VALUES ($1, $2, $3, 'running', 'live', 1)",
                flow,
                owner,
                f"bench-{flow.hex[:8]}",
            )
            await self._db.execute(
                "INSERT INTO flow_versions (flow_pk, version, graph) VALUES ($1, 1, $2::jsonb)", flow, json.dumps(graph)
            )
            await self._db.execute(
                "INSERT INTO schedules (flow_pk, cycle_interval, next_cycle, overlap, misfire) "
                "VALUES ($1, '0', 0, 'skip', 'once')",
                flow,
            )
        self._next[flow] = 0
        return flow

    async def open_cycles(self, flow: UUID, count: int) -> range:
        """`count` cycles and their start messages in one transaction."""
        first = self._next[flow]
        numbers = range(first, first + count)
        self._next[flow] = first + count
        async with self._db.transaction():
            await self._db.execute(
                "INSERT INTO cycles (flow_pk, cycle, version, fire_time, trigger, status) "
                "SELECT $1, n, 1, now() + n * interval '1 ms', 'manual', 'running' FROM unnest($2::bigint[]) AS n",
                flow,
                list(numbers),
            )
            await self._db.executemany(
                "INSERT INTO outbox (lane, exchange, routing_key, message_id, body) "
                "VALUES ('py_worker', $1, $2, $3, $4)",
                [_start_row(flow, number) for number in numbers],
            )
            await self._db.execute("SELECT pg_notify('outbox', 'py_worker')")
        return numbers

    async def wait_for_end(self, deadline_s: float = 120.0) -> None:
        """Until no cycle is open."""
        async with asyncio.timeout(deadline_s):
            while await self.open_count():  # noqa: ASYNC110 - a row in a database sets no event
                await asyncio.sleep(0.02)

    async def open_count(self) -> int:
        return int(await self._db.fetchval("SELECT count(*) FROM cycles WHERE status = 'running'"))

    async def span_s(self, flow: UUID, numbers: Sequence[int]) -> float:
        """From the start of the first node task to the end of the last cycle."""
        row = await self._db.fetchrow(
            "SELECT (SELECT min(started_at) FROM node_tasks WHERE flow_pk = $1 AND cycle BETWEEN $2 AND $3) AS first, "
            "(SELECT max(finished_at) FROM cycles WHERE flow_pk = $1 AND cycle BETWEEN $2 AND $3) AS last",
            flow,
            numbers[0],
            numbers[-1],
        )
        return float((row["last"] - row["first"]).total_seconds())

    async def store_history(self, flow: UUID, node_tasks: int, nodes: int) -> None:
        """Ended cycles of earlier days."""
        cycles = node_tasks // nodes
        self._next[flow] = cycles
        await self._db.execute(
            "INSERT INTO cycles (flow_pk, cycle, version, fire_time, trigger, status, started_at, finished_at) "
            "SELECT $1, n, 1, now() - interval '1 day' + n * interval '1 ms', 'interval', 'completed', now(), now() "
            "FROM generate_series(0, $2 - 1) AS n",
            flow,
            cycles,
        )
        await self._db.execute(
            "INSERT INTO node_tasks (flow_pk, cycle, node_id, status, attempt, outputs, started_at, finished_at) "
            "SELECT $1, c, 'n' || n, 'completed', 1, '{\"value\": null}', now(), now() "
            "FROM generate_series(0, $2 - 1) AS c, generate_series(0, $3 - 1) AS n",
            flow,
            cycles,
            nodes,
        )
        await self._db.execute("ANALYZE")

    async def add_due_flows(self, graph: dict[str, Any], count: int, within_s: int) -> None:
        """Flows of one user that fire once each, spread evenly over the next seconds."""
        user = await self.add_user()
        async with self._db.transaction():
            await self._db.execute(
                "INSERT INTO flows (id, user_id, flow_id, status, mode, current_version) "
                "SELECT gen_random_uuid(), $1, 'due-' || n, 'running', 'live', 1 FROM generate_series(1, $2::int) AS n",
                user,
                count,
            )
            await self._db.execute(
                "INSERT INTO flow_versions (flow_pk, version, graph) SELECT id, 1, $2::jsonb FROM flows "
                "WHERE user_id = $1",
                user,
                json.dumps(graph),
            )
            await self._db.execute(
                "INSERT INTO schedules (flow_pk, cycle_interval, next_cycle, overlap, misfire, next_fire_at) "
                "SELECT id, '0', 0, 'skip', 'once', "
                "clock_timestamp() + interval '5 s' + random() * make_interval(secs => $2) "
                "FROM flows WHERE user_id = $1",
                user,
                float(within_s),
            )

    async def pending_schedules(self) -> int:
        return int(await self._db.fetchval("SELECT count(*) FROM schedules WHERE next_fire_at IS NOT NULL"))

    async def schedule_lag_p99_s(self) -> float:
        """From the time a cycle was due to the start of its first node."""
        value = await self._db.fetchval(
            "SELECT extract(epoch FROM percentile_disc(0.99) WITHIN GROUP (ORDER BY n.started_at - c.fire_time)) "
            "FROM cycles c JOIN flows f ON f.id = c.flow_pk JOIN node_tasks n USING (flow_pk, cycle) "
            "WHERE f.flow_id LIKE 'due-%'"
        )
        return float(value)

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        return list(await self._db.fetch(query, *values))

    async def execute(self, query: str, *values: Any) -> None:
        await self._db.execute(query, *values)


def _start_row(flow: UUID, cycle: int) -> tuple[str, str, str, bytes]:
    partition = cycle_partition(flow, cycle, PARTITIONS)
    return CYCLES, partition_queue(partition), f"start:{flow}:{cycle}", encode(CycleStarted(flow, cycle))
