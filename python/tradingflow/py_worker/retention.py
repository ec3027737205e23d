"""Lets go of old history: cycles with their node tasks, logs, trigger events and dead letters, and trigger events that
were skipped.

A cycle that traded is kept, so that its trade stays explained, unless the settings say otherwise; trades themselves are
never deleted here. What nodes remember and the newest cycle of a flow stay, too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import TextClause, select, text
from sqlalchemy.exc import SQLAlchemyError

from tradingflow.core.clock import Clock
from tradingflow.core.logging import get_logger
from tradingflow.db.clock import ensure_known
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Flow

log = get_logger(__name__)

PERIOD_S = 3_600.0
# Cycles a transaction: short enough never to stand in the way of a commit.
BATCH = 500
# One worker at a time; the number only has to differ from other advisory locks of the database.
LOCK_ID = 7_001_001

_DELETE = text("""
WITH old AS MATERIALIZED (
    SELECT c.flow_pk, c.cycle FROM cycles c JOIN schedules s USING (flow_pk)
    WHERE c.flow_pk = :flow_pk AND c.status <> 'running' AND c.cycle < s.next_cycle - 1
      AND ((CAST(:before AS timestamptz) IS NOT NULL AND c.finished_at < :before)
           OR (CAST(:kept AS bigint) IS NOT NULL AND c.cycle < s.next_cycle - :kept))
      AND (:traded_too OR NOT EXISTS (SELECT FROM trades t WHERE t.flow_pk = c.flow_pk AND t.cycle = c.cycle))
    ORDER BY c.cycle LIMIT :batch FOR UPDATE OF c SKIP LOCKED
), logs AS (
    DELETE FROM flow_logs l USING old WHERE l.flow_pk = old.flow_pk AND l.cycle = old.cycle
), events AS (
    DELETE FROM trigger_events e USING old WHERE e.flow_pk = old.flow_pk AND e.cycle = old.cycle
), letters AS (
    DELETE FROM dead_letters d USING old WHERE d.flow_pk = old.flow_pk AND d.cycle = old.cycle
)
DELETE FROM cycles c USING old WHERE c.flow_pk = old.flow_pk AND c.cycle = old.cycle
""")

# By the same limits: a skipped event counts with the cycles that were there when it came.
_DELETE_SKIPPED = text("""
DELETE FROM trigger_events WHERE id IN (
    SELECT e.id FROM trigger_events e JOIN schedules s USING (flow_pk)
    LEFT JOIN cycles first ON first.flow_pk = e.flow_pk AND first.cycle = s.next_cycle - CAST(:kept AS bigint)
    WHERE e.flow_pk = :flow_pk AND e.status = 'skipped'
      AND (e.received_at < CAST(:before AS timestamptz) OR e.received_at < first.started_at)
    ORDER BY e.id LIMIT :batch
)
""")


@dataclass(frozen=True, slots=True)
class HistoryLimits:
    """None keeps everything in that respect; a cycle goes when either limit says so."""

    max_age: timedelta | None
    max_cycles: int | None
    traded_too: bool = False


class Retention:
    def __init__(self, sessions: SessionFactory, clock: Clock, limits: HistoryLimits) -> None:
        self._sessions = sessions
        self._clock = clock
        self._limits = limits

    async def run(self) -> None:
        """Sweep once a period until cancelled."""
        while True:
            try:
                await ensure_known(self._clock)
                await self.sweep()
            except (SQLAlchemyError, OSError) as error:
                log.warning("old history is let go of later", error=error)
            await asyncio.sleep(PERIOD_S)

    async def sweep(self) -> int:
        """Delete what is over the limits; returns how many cycles that were. None when another worker is at it."""
        if self._limits.max_age is None and self._limits.max_cycles is None:
            return 0
        async with self._sessions() as session, session.begin():
            if not await session.scalar(select(text(f"pg_try_advisory_xact_lock({LOCK_ID})"))):
                return 0
            flows = (await session.scalars(select(Flow.id))).all()
            deleted = 0
            for flow_pk in flows:
                while found := await self._delete_batch(_DELETE, flow_pk, traded_too=self._limits.traded_too):
                    deleted += found
                while await self._delete_batch(_DELETE_SKIPPED, flow_pk):
                    pass
        if deleted:
            log.info("let go of old cycles", cycles=deleted)
        return deleted

    async def _delete_batch(self, statement: TextClause, flow_pk: UUID, **more: bool) -> int:
        limits = self._limits
        before = None if limits.max_age is None else self._clock.now() - limits.max_age
        values = {"flow_pk": flow_pk, "before": before, "kept": limits.max_cycles, "batch": BATCH}
        async with self._sessions.begin() as session:
            result = await session.execute(statement, {**values, **more})
        return int(getattr(result, "rowcount", 0))
