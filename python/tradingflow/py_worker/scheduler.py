"""Fires due schedules. Every worker runs one; a row's lock and UNIQUE(flow, fire time) make each firing happen once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Table, and_, bindparam, exists, not_, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.clock import Clock
from tradingflow.core.logging import get_logger
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Cycle, Flow, Schedule
from tradingflow.py_worker.control import terminate_open_cycles
from tradingflow.py_worker.cycle_starter import CycleStart, open_cycles
from tradingflow.py_worker.engine.interval import Cron, Interval, Once, parse_interval

log = get_logger(__name__)

BATCH = 500
TICK_S = 0.25
RETRY_S = 1.0
# A fire time this late was missed (nobody was there), not merely served late.
MISFIRE_GRACE = timedelta(seconds=10)


_SCHEDULES = cast("Table", Schedule.__table__)
_ADVANCE = (
    update(_SCHEDULES)
    .where(_SCHEDULES.c.flow_pk == bindparam("b_flow_pk"))
    .values(next_fire_at=bindparam("b_next_fire_at"), next_cycle=bindparam("b_next_cycle"))
)


@dataclass(frozen=True, slots=True)
class Firing:
    """What becomes of one due schedule: whether it fires, and when next."""

    fires: bool
    next_fire_at: datetime | None


def plan_firing(
    interval: Interval, due: datetime, now: datetime, *, overlap: str, misfire: str, is_open: bool
) -> Firing:
    """Pure. Schedules that must wait for their open cycle (`queue`, or misfire `all`) do not come here while it is."""
    missed = now - due > MISFIRE_GRACE
    if isinstance(interval, Once):
        # There is no next time that would make up for this one, so it waits for the open cycle.
        fires = not is_open or overlap == "replace"
        return Firing(fires, None if fires else due)
    following = interval.step(due) if misfire == "all" else interval.next_after(due, now)
    if missed and misfire == "skip":
        return Firing(False, following)
    return Firing(not is_open or overlap == "replace", following)


class Scheduler:
    def __init__(self, sessions: SessionFactory, clock: Clock, partitions: int) -> None:
        self._sessions = sessions
        self._clock = clock
        self._partitions = partitions
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something became due in this process: do not wait for the next tick."""
        self._wake.set()

    async def run(self) -> None:
        """Fire until cancelled."""
        while True:
            try:
                while await self.tick() == BATCH:
                    pass
            except (SQLAlchemyError, OSError) as error:
                log.warning("scheduler interrupted", error=error)
                await asyncio.sleep(RETRY_S)
            self._wake.clear()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def tick(self) -> int:
        """Claim and serve one batch of due schedules; returns how many are not due any more."""
        async with self._sessions.begin() as session:
            now = self._clock.now()
            due = await self._claim(session, now)
            return await self._serve(session, due, now) if due else 0

    async def _claim(self, session: AsyncSession, now: datetime) -> Sequence[Row[Schedule, int, bool]]:
        is_open = exists().where(Cycle.flow_pk == Schedule.flow_pk, Cycle.status == "running")
        must_wait: ColumnElement[bool] = and_(is_open, or_(Schedule.overlap == "queue", Schedule.misfire == "all"))
        statement = (
            select(Schedule, Flow.current_version, is_open)
            .join(Flow, Flow.id == Schedule.flow_pk)
            .where(Schedule.next_fire_at <= now, Flow.status == "running", not_(must_wait))
            .order_by(Schedule.next_fire_at)
            .limit(BATCH)
            .with_for_update(of=Schedule, skip_locked=True)
        )
        return (await session.execute(statement)).all()

    async def _serve(self, session: AsyncSession, due: Iterable[Row[Schedule, int, bool]], now: datetime) -> int:
        starts: list[CycleStart] = []
        changes: list[dict[str, object]] = []
        for schedule, version, is_open in due:
            if schedule.next_fire_at is None:  # the query claims due rows only
                continue
            interval = parse_interval(schedule.cycle_interval)
            firing = plan_firing(
                interval,
                schedule.next_fire_at,
                now,
                overlap=schedule.overlap,
                misfire=schedule.misfire,
                is_open=is_open,
            )
            if firing.fires and is_open:
                await terminate_open_cycles(session, schedule.flow_pk, "replaced", now)
            if firing.fires:
                trigger = "cron" if isinstance(interval, Cron) else "interval"
                starts.append(
                    CycleStart(schedule.flow_pk, schedule.next_cycle, version, schedule.next_fire_at, trigger)
                )
            if firing.next_fire_at != schedule.next_fire_at:
                changes.append(_change(schedule.flow_pk, firing, schedule.next_cycle))
        if changes:
            await open_cycles(session, starts, self._partitions)
            await (await session.connection()).execute(_ADVANCE, changes)
        return len(changes)


def _change(flow_pk: UUID, firing: Firing, next_cycle: int) -> dict[str, object]:
    return {
        "b_flow_pk": flow_pk,
        "b_next_fire_at": firing.next_fire_at,
        "b_next_cycle": next_cycle + firing.fires,
    }
