"""Fires due schedules and serves trigger events. Every worker runs one; the lock of a flow's schedule row, which every
start of a cycle takes, and UNIQUE(flow, fire time) make each firing happen once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from sqlalchemy import Table, and_, bindparam, exists, not_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from tradingflow.core.clock import Clock
from tradingflow.core.logging import get_logger
from tradingflow.db.clock import ensure_known
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Cycle, Flow, Schedule, TriggerEvent
from tradingflow.db.schedules import is_due
from tradingflow.py_worker.control import terminate_open_cycles
from tradingflow.py_worker.cycle_starter import CycleStart, open_cycles
from tradingflow.py_worker.engine.interval import Cron, Interval, Once, parse_interval
from tradingflow.py_worker.trigger_events import TRIGGER_CHANGED

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


@dataclass(frozen=True, slots=True)
class Standing:
    """How a flow stands once its schedule row is locked: nothing can start a cycle of it now but we."""

    status: str
    version: int
    is_open: bool


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
                await ensure_known(self._clock)
                while await self.tick() == BATCH:
                    pass
                while await self.serve_events():
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

    async def serve_events(self) -> int:
        """Claim the oldest trigger event of each flow that has any; returns how many are not pending any more."""
        async with self._sessions.begin() as session:
            now = self._clock.now()
            claimed = await self._claim_events(session)
            standing = await _standing(session, [schedule.flow_pk for schedule, _ in claimed])
            starts: list[CycleStart] = []
            served = 0
            for schedule, event in claimed:
                stands = standing[schedule.flow_pk]
                if stands.status != "running" or (stands.is_open and schedule.overlap == "queue"):
                    continue
                served += 1
                if event.kind != schedule.trigger["type"]:  # recorded while the trigger was being changed
                    event.status, event.reason = "skipped", TRIGGER_CHANGED
                    continue
                if stands.is_open and schedule.overlap == "skip":
                    event.status, event.reason = "skipped", "the cycle before was still open"
                    continue
                if stands.is_open:
                    await terminate_open_cycles(session, schedule.flow_pk, "replaced", now)
                event.status, event.cycle = "started", schedule.next_cycle
                starts.append(_start_of(event, schedule, stands.version, now))
                schedule.next_cycle += 1
            await open_cycles(session, starts, self._partitions)
        return served

    async def _claim_events(self, session: AsyncSession) -> Sequence[tuple[Schedule, TriggerEvent]]:
        oldest = aliased(TriggerEvent)
        earlier = exists().where(
            oldest.flow_pk == TriggerEvent.flow_pk, oldest.status == "pending", oldest.id < TriggerEvent.id
        )
        must_wait = and_(
            Schedule.overlap == "queue", exists().where(Cycle.flow_pk == Schedule.flow_pk, Cycle.status == "running")
        )
        statement = (
            select(Schedule, TriggerEvent)
            .join(TriggerEvent, TriggerEvent.flow_pk == Schedule.flow_pk)
            .join(Flow, Flow.id == Schedule.flow_pk)
            .where(TriggerEvent.status == "pending", Flow.status == "running", not_(earlier), not_(must_wait))
            .order_by(TriggerEvent.id)
            .limit(BATCH)
            .with_for_update(of=(Schedule, TriggerEvent), skip_locked=True)
        )
        return [(schedule, event) for schedule, event in await session.execute(statement)]

    async def _claim(self, session: AsyncSession, now: datetime) -> Sequence[Schedule]:
        # Who would be claimed only to wait on would take the place of those who can be served.
        statement = (
            select(Schedule)
            .where(is_due(now))
            .order_by(Schedule.next_fire_at)
            .limit(BATCH)
            .with_for_update(of=Schedule, skip_locked=True)
        )
        return (await session.scalars(statement)).all()

    async def _serve(self, session: AsyncSession, due: Sequence[Schedule], now: datetime) -> int:
        starts: list[CycleStart] = []
        changes: list[dict[str, object]] = []
        standing = await _standing(session, [schedule.flow_pk for schedule in due])
        for schedule in due:
            stands = standing[schedule.flow_pk]
            if schedule.next_fire_at is None or schedule.cycle_interval is None:  # the query claims due rows only
                continue
            waits = stands.is_open and (schedule.overlap == "queue" or schedule.misfire == "all")
            if stands.status != "running" or waits:
                continue  # paused, or a cycle opened, between the query and the lock
            interval = parse_interval(schedule.cycle_interval)
            firing = plan_firing(
                interval,
                schedule.next_fire_at,
                now,
                overlap=schedule.overlap,
                misfire=schedule.misfire,
                is_open=stands.is_open,
            )
            if firing.fires and stands.is_open:
                await terminate_open_cycles(session, schedule.flow_pk, "replaced", now)
            if firing.fires:
                trigger = "cron" if isinstance(interval, Cron) else "interval"
                starts.append(
                    CycleStart(schedule.flow_pk, schedule.next_cycle, stands.version, schedule.next_fire_at, trigger)
                )
            if firing.next_fire_at != schedule.next_fire_at:
                changes.append(_change(schedule.flow_pk, firing, schedule.next_cycle))
        if changes:
            await open_cycles(session, starts, self._partitions)
            await (await session.connection()).execute(_ADVANCE, changes)
        return len(changes)


async def _standing(session: AsyncSession, flows: Sequence[UUID]) -> dict[UUID, Standing]:
    """Asked after the lock: the snapshot of the query that locks may be older than the lock."""
    if not flows:
        return {}
    is_open = exists().where(Cycle.flow_pk == Flow.id, Cycle.status == "running")
    rows = await session.execute(select(Flow.id, Flow.status, Flow.current_version, is_open).where(Flow.id.in_(flows)))
    return {flow_pk: Standing(status, version, found) for flow_pk, status, version, found in rows}


def _start_of(event: TriggerEvent, schedule: Schedule, version: int, now: datetime) -> CycleStart:
    return CycleStart(schedule.flow_pk, schedule.next_cycle, version, now, event.kind, event.payload)


def _change(flow_pk: UUID, firing: Firing, next_cycle: int) -> dict[str, object]:
    return {
        "b_flow_pk": flow_pk,
        "b_next_fire_at": firing.next_fire_at,
        "b_next_cycle": next_cycle + firing.fires,
    }
