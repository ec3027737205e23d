from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import and_, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from tradingflow.db.models import JobRun

MAX_ERROR_CHARS = 500


async def take_turn(connection: AsyncConnection, name: str) -> bool:
    """Whether nobody else does `name`. The lock is the connection's and ends with it, or with `give_turn`."""
    query = text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
    return bool(await connection.scalar(query, {"name": name}))


async def give_turn(connection: AsyncConnection, name: str) -> None:
    await connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))"), {"name": name})


async def is_another_first(connection: AsyncConnection, name: str, periods: Mapping[str, timedelta]) -> bool:
    """Whether one of these jobs is late and began longer ago than `name` did, so that its tick comes before ours.

    Without it a job that is due often would take every turn from those due less often.
    """
    now = func.clock_timestamp()
    late = or_(*(and_(JobRun.name == other, JobRun.started_at < now - every) for other, every in periods.items()))
    ours = select(JobRun.started_at).where(JobRun.name == name).scalar_subquery()
    return bool(await connection.scalar(select(select(JobRun.name).where(late, JobRun.started_at < ours).exists())))


async def begin(connection: AsyncConnection, name: str, soonest_again: timedelta) -> datetime | None:
    """Note the start by PostgreSQL's clock; None when the last one is younger than `soonest_again`."""
    now = func.clock_timestamp()
    statement = (
        insert(JobRun)
        .values(name=name, started_at=now, runs=1, failures=0)
        .on_conflict_do_update(
            index_elements=[JobRun.name],
            set_={"started_at": now, "finished_at": None, "duration_ms": None, "runs": JobRun.runs + 1},
            where=JobRun.started_at <= now - soonest_again,
        )
        .returning(JobRun.started_at)
    )
    started: datetime | None = await connection.scalar(statement)
    return started


async def end(connection: AsyncConnection, name: str, started_at: datetime, error: str | None) -> None:
    """Note the end of the run that began at `started_at`; of no other."""
    now = func.clock_timestamp()
    statement = update(JobRun).where(JobRun.name == name, JobRun.started_at == started_at)
    await connection.execute(
        statement.values(
            finished_at=now,
            duration_ms=func.round(func.extract("epoch", now - JobRun.started_at) * 1000),
            error=error[:MAX_ERROR_CHARS] if error else None,
            failures=JobRun.failures + int(error is not None),
        )
    )


async def last_runs(session: AsyncSession) -> dict[str, JobRun]:
    return {run.name: run for run in await session.scalars(select(JobRun))}
