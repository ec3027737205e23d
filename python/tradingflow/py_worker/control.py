"""Stop, pause, resume: the database is changed first, in one transaction; the workers follow within the second.

A worker that never hears of it cannot undo it either: it can neither commit a task nor open a trade of a cycle that
is not running any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import get_logger
from tradingflow.db.models import Cycle
from tradingflow.py_worker.runtime.conductor import Conductor
from tradingflow.py_worker.runtime.connection import KeptConnection
from tradingflow.py_worker.runtime.store import CycleStore

log = get_logger(__name__)

CHANNEL = "flow_control"
RETRY_S = 0.5
# The listening connection is asked this often whether it still lives.
PING_S = 5.0
# A connection that is gone without a word would otherwise hold the question for a quarter of an hour.
PING_TIMEOUT_S = 5.0

_LOCK_CYCLES = text("""
SELECT 1 FROM cycles WHERE flow_pk = :flow_pk AND cycle = ANY(:cycles) ORDER BY cycle FOR UPDATE
""")

_TERMINATE_TASKS = text("""
INSERT INTO node_tasks (flow_pk, cycle, node_id, status, attempt, error, finished_at)
SELECT c.flow_pk, c.cycle, node ->> 'id', 'terminated', 0,
       jsonb_build_object('error', 'terminated', 'detail', CAST(:reason AS text)), :now
FROM cycles c
JOIN flow_versions v ON v.flow_pk = c.flow_pk AND v.version = c.version
CROSS JOIN LATERAL jsonb_array_elements(v.graph -> 'nodes') AS node
WHERE c.flow_pk = :flow_pk AND c.cycle = ANY(:cycles)
  AND (CAST(:nodes AS text[]) IS NULL OR node ->> 'id' = ANY(CAST(:nodes AS text[])))
ON CONFLICT (flow_pk, cycle, node_id) DO UPDATE
SET status = 'terminated', error = excluded.error, finished_at = excluded.finished_at
WHERE node_tasks.status IN ('pending', 'running')
""")


async def tell_workers(session: AsyncSession, flow_pk: UUID) -> None:
    """When this transaction commits, workers compare their cycles of the flow with the database."""
    await session.execute(text("SELECT pg_notify(:channel, :flow)"), {"channel": CHANNEL, "flow": str(flow_pk)})


async def terminate_open_cycles(
    session: AsyncSession, flow_pk: UUID, reason: str, now: datetime, cycle: int | None = None
) -> list[int]:
    """End the open cycles (or the one given) as terminated, every task of theirs that has not ended included."""
    open_ = update(Cycle).where(Cycle.flow_pk == flow_pk, Cycle.status == "running")
    if cycle is not None:
        open_ = open_.where(Cycle.cycle == cycle)
    ended = (await session.scalars(open_.values(status="terminated", finished_at=now).returning(Cycle.cycle))).all()
    if ended:
        await terminate_tasks(session, flow_pk, ended, reason, now)
    return list(ended)


async def terminate_tasks(
    session: AsyncSession,
    flow_pk: UUID,
    cycles: Sequence[int],
    reason: str,
    now: datetime,
    nodes: Sequence[str] | None = None,
) -> None:
    """End the tasks that have not ended, of all nodes or those given.

    The cycles' rows are locked first, and in a way that a commit of their tasks waits for too (its foreign key wants
    a share of the same row): otherwise the two insert the same tasks in different orders, and deadlock.
    """
    await session.execute(_LOCK_CYCLES, {"flow_pk": flow_pk, "cycles": list(cycles)})
    values = {"flow_pk": flow_pk, "cycles": list(cycles), "reason": reason, "now": now, "nodes": nodes}
    await session.execute(_TERMINATE_TASKS, values)
    await tell_workers(session, flow_pk)


class ControlListener:
    """Keeps the cycles in this worker's memory in step with what control changed in the database."""

    def __init__(self, engine: AsyncEngine, store: CycleStore, conductor: Conductor) -> None:
        self._listening = KeptConnection(engine.url, "py_worker control")
        self._store = store
        self._conductor = conductor
        self._changed: set[UUID] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled. Whatever was missed while the connection was down is caught up on."""
        while True:
            try:
                async with self._listening.use() as connection:
                    await self._listen(connection)
            except DependencyUnavailable as error:
                log.warning("control listener interrupted", error=error)
            await asyncio.sleep(RETRY_S)

    async def _listen(self, connection: asyncpg.Connection) -> None:
        """Listening comes first: what changes while the rest is compared arrives as a notification."""
        connection.add_termination_listener(self._on_lost)
        await connection.add_listener(CHANNEL, self._on_notify)
        self._changed |= self._conductor.flows()
        while True:
            while self._changed:
                await self._follow(self._changed.pop())
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_S):
                    await self._wake.wait()
            self._wake.clear()
            if not self._changed:
                await connection.fetchval("SELECT 1", timeout=PING_TIMEOUT_S)

    def _on_notify(self, _: object, __: int, ___: str, flow: object) -> None:
        self._changed.add(UUID(str(flow)))
        self._wake.set()

    def _on_lost(self, _: object) -> None:
        self._wake.set()

    async def _follow(self, flow_pk: UUID) -> None:
        self._conductor.changed(flow_pk)
        lives = self._conductor.live_of_flow(flow_pk)
        if lives:
            stored = {cycle.key: cycle for cycle in await self._store.load([live.key for live in lives])}
            for live in lives:
                self._conductor.reconcile(live, stored.get(live.key))
