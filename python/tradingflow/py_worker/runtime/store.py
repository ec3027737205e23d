"""The worker's hot statements, many rows each. asyncpg without the ORM: this is what a hop costs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.core.logging import redact_text
from tradingflow.py_worker.engine.cycle import Outcome
from tradingflow.py_worker.runtime.connection import KeptConnection
from tradingflow.py_worker.runtime.records import (
    CycleKey,
    CycleRecord,
    OpenCycle,
    Record,
    RunningRecord,
    StoredCycle,
    TaskRecord,
)

# coalesce() keeps the planner off the partial index of open cycles: it expects one open cycle to be there and then
# compares every record with every open cycle, instead of looking each up by its primary key.
_TASKS = """
INSERT INTO node_tasks (flow_pk, cycle, node_id, status, attempt, outputs, error, worker_id, started_at, finished_at)
SELECT t.flow_pk, t.cycle, t.node_id, t.status, t.attempt, t.outputs::jsonb, t.error::jsonb, $10, t.started_at,
       t.finished_at
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[],
            $8::timestamptz[], $9::timestamptz[])
     AS t(flow_pk, cycle, node_id, status, attempt, outputs, error, started_at, finished_at)
JOIN cycles c ON c.flow_pk = t.flow_pk AND c.cycle = t.cycle AND coalesce(c.status, '') = 'running'
ON CONFLICT (flow_pk, cycle, node_id) DO UPDATE
SET status = excluded.status, attempt = excluded.attempt, outputs = excluded.outputs, error = excluded.error,
    worker_id = excluded.worker_id, started_at = excluded.started_at, finished_at = excluded.finished_at
WHERE node_tasks.status IN ('pending', 'running')
"""

_TASKS_APPLIED = """
SELECT n.flow_pk, n.cycle, n.node_id
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[]) AS t(flow_pk, cycle, node_id, finished_at)
JOIN node_tasks n USING (flow_pk, cycle, node_id, finished_at)
WHERE n.worker_id = $5
"""

_RUNNING = """
INSERT INTO node_tasks (flow_pk, cycle, node_id, status, attempt, worker_id, started_at)
SELECT t.flow_pk, t.cycle, t.node_id, 'running', t.attempt, $6, t.started_at
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[], $5::timestamptz[])
     AS t(flow_pk, cycle, node_id, attempt, started_at)
JOIN cycles c ON c.flow_pk = t.flow_pk AND c.cycle = t.cycle AND coalesce(c.status, '') = 'running'
ON CONFLICT (flow_pk, cycle, node_id) DO UPDATE
SET status = excluded.status, attempt = excluded.attempt, worker_id = excluded.worker_id,
    started_at = excluded.started_at
WHERE node_tasks.status IN ('pending', 'running')
"""

# The count is the guard of "nothing marks a cycle completed before all its node tasks have ended". A task that was
# terminated before its worker heard of it has another ending there, and the table's counts.
_CYCLES = """
WITH ended AS MATERIALIZED (
    SELECT t.flow_pk, t.cycle, CASE WHEN tasks.is_terminated THEN 'terminated' ELSE t.ending END AS ending
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::int[]) AS t(flow_pk, cycle, ending, nodes)
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE n.status NOT IN ('pending', 'running')) AS ended,
               bool_or(n.status = 'terminated') AS is_terminated
        FROM node_tasks n WHERE n.flow_pk = t.flow_pk AND n.cycle = t.cycle
    ) AS tasks
    WHERE t.nodes = tasks.ended
)
UPDATE cycles c SET status = ended.ending, finished_at = clock_timestamp()
FROM ended
WHERE c.flow_pk = ended.flow_pk AND c.cycle = ended.cycle AND coalesce(c.status, '') = 'running'
RETURNING c.flow_pk, c.cycle
"""

_LOGS = """
INSERT INTO flow_logs (flow_pk, cycle, node_id, log_level, log_source, message, created_at)
SELECT t.flow_pk, t.cycle, t.node_id, t.log_level, t.log_source, t.message, coalesce(t.created_at, clock_timestamp())
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
     AS t(flow_pk, cycle, node_id, log_level, log_source, message, created_at)
"""

_STATE = """
INSERT INTO node_state (flow_pk, node_id, key, value, cycle)
SELECT t.flow_pk, t.node_id, t.key, t.value::jsonb, t.cycle
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[]) AS t(flow_pk, node_id, key, value, cycle)
ON CONFLICT (flow_pk, node_id, key) DO UPDATE
SET value = excluded.value, cycle = excluded.cycle, updated_at = now()
"""

_JOURNAL = """
INSERT INTO cycle_journal (flow_pk, cycle, node_id, entries, is_cut)
SELECT t.flow_pk, t.cycle, t.node_id, t.entries::jsonb, t.is_cut
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bool[])
     AS t(flow_pk, cycle, node_id, entries, is_cut)
ON CONFLICT DO NOTHING
"""

_LOAD_CYCLES = """
SELECT c.flow_pk, c.cycle, c.version, c.status, f.flow_id, f.user_id, f.status AS flow_status, c.mode,
       f.paused_nodes, c.trigger, c.trigger_data::text AS trigger_data
FROM unnest($1::uuid[], $2::bigint[]) AS t(flow_pk, cycle)
JOIN cycles c USING (flow_pk, cycle) JOIN flows f ON f.id = c.flow_pk
"""

_LOAD_TASKS = """
SELECT n.flow_pk, n.cycle, n.node_id, n.status, n.outputs::text AS outputs, n.error::text AS error, n.attempt,
       n.started_at, n.finished_at
FROM unnest($1::uuid[], $2::bigint[]) AS t(flow_pk, cycle) JOIN node_tasks n USING (flow_pk, cycle)
WHERE n.status NOT IN ('pending', 'running')
"""

_json = msgspec.json.Encoder()
_from_json = msgspec.json.decode


class CycleStore:
    """Commits what cycles do and loads them back. Raises DependencyUnavailable when PostgreSQL is away."""

    def __init__(self, engine: AsyncEngine, worker_id: str) -> None:
        self._worker_id = worker_id
        self._writing = KeptConnection(engine.url, f"py_worker commit {worker_id}")
        self._reading = KeptConnection(engine.url, f"py_worker read {worker_id}")

    async def close(self) -> None:
        await self._writing.close()
        await self._reading.close()

    async def commit(self, records: Sequence[Record]) -> list[bool]:
        """One transaction for all; says for each record whether it was applied. Task keys must not repeat."""
        async with self._writing.use() as connection:
            if all(isinstance(r, TaskRecord) and not (r.logs or r.state or r.journal) for r in records):
                # A single statement is a transaction of its own, in one round trip instead of three.
                tasks = [r for r in records if isinstance(r, TaskRecord)]
                applied_tasks, ended = await self._end_tasks(connection, tasks), set[CycleKey]()
            else:
                async with connection.transaction():
                    applied_tasks, ended = await self._write(connection, records)
        return [_was_applied(record, applied_tasks, ended) for record in records]

    async def _write(
        self, connection: asyncpg.Connection, records: Sequence[Record]
    ) -> tuple[set[tuple[UUID, int, str]], set[CycleKey]]:
        await self._mark_running(connection, [r for r in records if isinstance(r, RunningRecord)])
        tasks = [r for r in records if isinstance(r, TaskRecord)]
        applied = await self._end_tasks(connection, tasks)
        kept = [task for task in tasks if (*task.key, task.node_id) in applied]
        await self._remember(connection, kept)
        await self._write_logs(connection, kept)
        await self._write_journal(connection, kept)
        cycles = [r for r in records if isinstance(r, CycleRecord)]
        ended = await self._end_cycles(connection, cycles)
        await self._say(connection, [c for c in cycles if c.said and c.key in ended])
        return applied, ended

    async def load(self, keys: Sequence[CycleKey]) -> list[StoredCycle]:
        """The cycles that exist, in any order."""
        flows, cycles = [key[0] for key in keys], [key[1] for key in keys]
        async with self._reading.use() as connection, connection.transaction():
            rows = await connection.fetch(_LOAD_CYCLES, flows, cycles)
            tasks = await connection.fetch(_LOAD_TASKS, flows, cycles)
        outcomes: dict[CycleKey, dict[str, Outcome]] = {}
        for task in tasks:
            outcomes.setdefault((_uuid(task["flow_pk"]), task["cycle"]), {})[task["node_id"]] = _outcome(task)
        return [_stored(row, outcomes.get((_uuid(row["flow_pk"]), row["cycle"]), {})) for row in rows]

    async def graph_json(self, flow_pk: UUID, version: int) -> Any:
        """The JSON of one version; None when there is none."""
        query = "SELECT graph::text FROM flow_versions WHERE flow_pk = $1 AND version = $2"
        async with self._reading.use() as connection:
            text = await connection.fetchval(query, flow_pk, version)
        return None if text is None else _from_json(text)

    async def node_state(self, flow_pk: UUID, node_id: str, key: str) -> Any:
        query = "SELECT value::text FROM node_state WHERE flow_pk = $1 AND node_id = $2 AND key = $3"
        async with self._reading.use() as connection:
            text = await connection.fetchval(query, flow_pk, node_id, key)
        return None if text is None else _from_json(text)

    async def stale_cycles(
        self, started_before: datetime, limit: int, after: OpenCycle | None = None
    ) -> list[OpenCycle]:
        """A page of the open cycles that started before, oldest first; those of a stopped flow were started by hand.

        A paused flow's are not to run, and are announced when it is resumed."""
        query = """SELECT c.started_at, c.flow_pk, c.cycle FROM cycles c JOIN flows f ON f.id = c.flow_pk
                   WHERE c.status = 'running' AND f.status <> 'paused' AND c.started_at < $1
                     AND NOT EXISTS (SELECT FROM dead_letters d WHERE d.flow_pk = c.flow_pk AND d.cycle = c.cycle
                                     AND d.status = 'dead')
                     AND ($3::timestamptz IS NULL OR (c.started_at, c.flow_pk, c.cycle) > ($3, $4, $5))
                   ORDER BY c.started_at, c.flow_pk, c.cycle LIMIT $2"""
        async with self._reading.use() as connection:
            rows = await connection.fetch(query, started_before, limit, *(after or (None, None, None)))
        return [OpenCycle(row["started_at"], _uuid(row["flow_pk"]), row["cycle"]) for row in rows]

    async def _end_tasks(
        self, connection: asyncpg.Connection, tasks: Sequence[TaskRecord]
    ) -> set[tuple[UUID, int, str]]:
        keys = {(*task.key, task.node_id) for task in tasks}
        if not tasks:
            return keys
        flows, cycles, nodes = [t.key[0] for t in tasks], [t.key[1] for t in tasks], [t.node_id for t in tasks]
        outcomes = [t.outcome for t in tasks]
        finished = [o.finished_at for o in outcomes]
        status = await connection.execute(
            _TASKS,
            flows,
            cycles,
            nodes,
            [o.status for o in outcomes],
            [o.attempt for o in outcomes],
            [t.outputs for t in tasks],
            [None if o.error is None else _json.encode(o.error).decode() for o in outcomes],
            [o.started_at for o in outcomes],
            finished,
            self._worker_id,
        )
        if _count(status) == len(tasks):
            return keys
        rows = await connection.fetch(_TASKS_APPLIED, flows, cycles, nodes, finished, self._worker_id)
        return {(_uuid(row["flow_pk"]), row["cycle"], row["node_id"]) for row in rows}

    async def _mark_running(self, connection: asyncpg.Connection, records: Sequence[RunningRecord]) -> None:
        if records:
            await connection.execute(
                _RUNNING,
                [r.key[0] for r in records],
                [r.key[1] for r in records],
                [r.node_id for r in records],
                [r.attempt for r in records],
                [r.started_at for r in records],
                self._worker_id,
            )

    async def _remember(self, connection: asyncpg.Connection, tasks: Sequence[TaskRecord]) -> None:
        entries = {(t.key[0], t.node_id, key): (value, t.key[1]) for t in tasks for key, value in t.state.items()}
        if entries:
            await connection.execute(
                _STATE,
                [key[0] for key in entries],
                [key[1] for key in entries],
                [key[2] for key in entries],
                [_json.encode(value).decode() for value, _ in entries.values()],
                [cycle for _, cycle in entries.values()],
            )

    async def _write_logs(self, connection: asyncpg.Connection, tasks: Sequence[TaskRecord]) -> None:
        lines = [(task, line) for task in tasks for line in task.logs]
        if lines:
            await connection.execute(
                _LOGS,
                [task.key[0] for task, _ in lines],
                [task.key[1] for task, _ in lines],
                [task.node_id for task, _ in lines],
                [line.log_level for _, line in lines],
                [line.log_source for _, line in lines],
                [redact_text(line.message) for _, line in lines],
                [line.created_at for _, line in lines],
            )

    async def _say(self, connection: asyncpg.Connection, cycles: Sequence[CycleRecord]) -> None:
        if cycles:
            await connection.execute(
                _LOGS,
                [c.key[0] for c in cycles],
                [c.key[1] for c in cycles],
                [None] * len(cycles),
                ["ERROR"] * len(cycles),
                ["system"] * len(cycles),
                [redact_text(c.said) for c in cycles],
                [None] * len(cycles),
            )

    async def _write_journal(self, connection: asyncpg.Connection, tasks: Sequence[TaskRecord]) -> None:
        journaled = [(task, task.journal) for task in tasks if task.journal is not None]
        if journaled:
            await connection.execute(
                _JOURNAL,
                [task.key[0] for task, _ in journaled],
                [task.key[1] for task, _ in journaled],
                [task.node_id for task, _ in journaled],
                [journal.entries for _, journal in journaled],
                [journal.is_cut for _, journal in journaled],
            )

    async def _end_cycles(self, connection: asyncpg.Connection, cycles: Sequence[CycleRecord]) -> set[CycleKey]:
        if not cycles:
            return set()
        rows = await connection.fetch(
            _CYCLES,
            [c.key[0] for c in cycles],
            [c.key[1] for c in cycles],
            [c.ending for c in cycles],
            [c.nodes for c in cycles],
        )
        return {(_uuid(row["flow_pk"]), row["cycle"]) for row in rows}


def _was_applied(record: Record, tasks: set[tuple[UUID, int, str]], cycles: set[CycleKey]) -> bool:
    if isinstance(record, TaskRecord):
        return (*record.key, record.node_id) in tasks
    return not isinstance(record, CycleRecord) or record.key in cycles


def _count(status: str) -> int:
    """Rows of a command tag such as `INSERT 0 42`."""
    return int(status.rsplit(" ", 1)[1])


def _uuid(value: UUID) -> UUID:
    """asyncpg's own UUID subclass hashes and compares as ours does, but pickles and prints differently."""
    return value if type(value) is UUID else UUID(int=value.int)


def _stored(row: asyncpg.Record, outcomes: dict[str, Outcome]) -> StoredCycle:
    return StoredCycle(
        (_uuid(row["flow_pk"]), row["cycle"]),
        row["flow_id"],
        _uuid(row["user_id"]),
        row["flow_status"],
        row["mode"],
        row["version"],
        row["status"],
        outcomes,
        frozenset(row["paused_nodes"]),
        row["trigger"],
        _from_json(row["trigger_data"]) if row["trigger_data"] else None,
    )


def _outcome(row: asyncpg.Record) -> Outcome:
    return Outcome(
        row["status"],
        _from_json(row["outputs"]) if row["outputs"] else {},
        _from_json(row["error"]) if row["error"] else None,
        row["attempt"],
        row["started_at"],
        row["finished_at"],
    )
