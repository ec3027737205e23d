"""Backtests in PostgreSQL. Every query of the routes is bound to an owner; what the runner writes, to its attempt."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CursorResult, and_, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, defer

from tradingflow.core.errors import Conflict, NotFound, Refused, TooManyRequests
from tradingflow.core.storable import storable_text
from tradingflow.db.models import BacktestFile, BacktestJob, User

MAX_OPEN = 5
MAX_KEPT = 100
LEASE = timedelta(seconds=15)
# A backtest that has ended its worker this often would do so for ever.
MAX_ATTEMPTS = 3
OPEN = ("queued", "running")
# Files of a completed backtest, as its process writes them, by the format they are asked for in.
RESULTS = {"json": "result.json", "csv": "trades.csv", "html": "report.html"}


@dataclass(frozen=True)
class Submission:
    """`request` is what the job's process reads; `files` the text of its candles."""

    flow_id: str | None
    version: int | None
    request: dict[str, Any]
    files: Sequence[str]
    cycles: int


@dataclass(frozen=True)
class Claim:
    """One attempt at one backtest."""

    number: int
    attempt: int
    request: dict[str, Any]


# ---------------------------------------------------------------------- for its owner


async def require_room(session: AsyncSession, owner: UUID) -> None:
    """Until the transaction ends nobody else adds one of this owner's. Raises TooManyRequests and Refused."""
    await session.execute(select(User.id).where(User.id == owner).with_for_update(key_share=True))
    is_open = BacktestJob.status.in_(OPEN)
    counts = select(func.count(), func.count().filter(is_open)).where(BacktestJob.user_id == owner)
    kept, opened = (await session.execute(counts)).one()
    if opened >= MAX_OPEN:
        raise TooManyRequests(
            "backtest_quota", f"you may have {MAX_OPEN} backtests queued or running; wait for one or cancel it", 10
        )
    if kept >= MAX_KEPT:
        raise Refused("backtest_quota", f"you may keep {MAX_KEPT} backtests; delete one first")


async def add(session: AsyncSession, owner: UUID, asked: Submission) -> BacktestJob:
    """Raises as `require_room`."""
    contents = await asyncio.to_thread(_compressed, asked.files)
    await require_room(session, owner)
    job = BacktestJob(
        id=uuid4(),
        user_id=owner,
        flow_id=asked.flow_id,
        version=asked.version,
        request=asked.request,
        cycles_total=asked.cycles,
    )
    session.add(job)
    await session.flush()
    for place, content in enumerate(contents):
        session.add(BacktestFile(number=job.number, name=f"{place}.csv", content=content))
    await session.flush()
    await session.refresh(job)
    return job


async def get(session: AsyncSession, owner: UUID, identity: UUID, *, lock: bool = False) -> BacktestJob:
    """Raises NotFound, also for somebody else's."""
    chosen = select(BacktestJob).where(BacktestJob.id == identity, BacktestJob.user_id == owner)
    found = await session.scalar(chosen.with_for_update() if lock else chosen)
    if found is None:
        raise NotFound("backtest", identity)
    return found


async def list_jobs(session: AsyncSession, owner: UUID, before: int | None, limit: int) -> Sequence[BacktestJob]:
    """Newest first, without their requests, each of which holds a whole flow."""
    chosen = select(BacktestJob).where(BacktestJob.user_id == owner).options(defer(BacktestJob.request, raiseload=True))
    if before is not None:
        chosen = chosen.where(BacktestJob.number < before)
    return (await session.scalars(chosen.order_by(BacktestJob.number.desc()).limit(limit))).all()


async def result_file(session: AsyncSession, job: BacktestJob, name: str) -> bytes:
    """Compressed. Raises Conflict while there is none."""
    found = await session.get(BacktestFile, (job.number, name)) if job.status == "completed" else None
    if found is None:
        raise Conflict("backtest_not_completed", f"there is no result: the backtest is {job.status}")
    return found.content


# ---------------------------------------------------------------------- for the runner


async def claim(session: AsyncSession, now: datetime) -> Claim | None:
    """One that nobody runs: of the owner with the fewest running, then of the one whose last began longest ago, then
    the oldest. One that was begun too often is failed instead."""
    abandoned = and_(BacktestJob.status == "running", BacktestJob.leased_until < now)
    others = aliased(BacktestJob)
    is_running = and_(others.status == "running", others.leased_until >= now)
    of_owner = select(others).where(others.user_id == BacktestJob.user_id).correlate(BacktestJob)
    running = of_owner.with_only_columns(func.count().filter(is_running)).scalar_subquery()
    last_begun = of_owner.with_only_columns(func.max(others.started_at)).scalar_subquery()
    chosen = (
        select(BacktestJob)
        .where(or_(BacktestJob.status == "queued", abandoned))
        .order_by(running, last_begun.nulls_first(), BacktestJob.number)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    job = await session.scalar(chosen)
    if job is None:
        return None
    if job.attempt >= MAX_ATTEMPTS:
        job.status, job.finished_at = "failed", now
        job.failure_code = "backtest_abandoned"
        job.failure_detail = f"{MAX_ATTEMPTS} attempts ended without an answer"
        return None
    job.status, job.attempt, job.cycles_done = "running", job.attempt + 1, 0
    job.started_at, job.leased_until = now, now + LEASE
    return Claim(job.number, job.attempt, job.request)


async def candles(session: AsyncSession, claimed: Claim) -> dict[str, bytes]:
    """Text of the candles by file name."""
    rows = await session.scalars(select(BacktestFile).where(BacktestFile.number == claimed.number))
    contents = {row.name: row.content for row in rows}
    return await asyncio.to_thread(_decompressed, contents)


async def renew(session: AsyncSession, claimed: Claim, now: datetime, done: int) -> bool:
    """Whether the attempt still counts: False once it was cancelled, deleted, or taken over."""
    return await _set(session, claimed, leased_until=now + LEASE, cycles_done=done)


async def release(session: AsyncSession, claimed: Claim) -> None:
    """Back to the queue, the attempt not counted: this worker ends in good order."""
    await _set(session, claimed, status="queued", leased_until=None, attempt=claimed.attempt - 1)


async def complete(
    session: AsyncSession, claimed: Claim, now: datetime, figures: Mapping[str, Any], files: Mapping[str, bytes]
) -> bool:
    """Write the result, once. False when the attempt does not count any more."""
    ended = {"status": "completed", "finished_at": now, "cycles_done": BacktestJob.cycles_total}
    if not await _set(session, claimed, figures=dict(figures), **ended):
        return False
    await session.execute(delete(BacktestFile).where(BacktestFile.number == claimed.number))
    session.add_all([BacktestFile(number=claimed.number, name=name, content=held) for name, held in files.items()])
    return True


async def fail(session: AsyncSession, claimed: Claim, now: datetime, code: str, detail: str) -> bool:
    """False when the attempt does not count any more."""
    return await _set(
        session, claimed, status="failed", finished_at=now, failure_code=code, failure_detail=storable_text(detail)
    )


# Megabytes of text take the processor too long for an event loop.


def _compressed(texts: Sequence[str]) -> list[bytes]:
    return [zlib.compress(text.encode()) for text in texts]


def _decompressed(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: zlib.decompress(content) for name, content in contents.items()}


async def _set(session: AsyncSession, claimed: Claim, **values: Any) -> bool:
    statement = (
        update(BacktestJob)
        .where(
            BacktestJob.number == claimed.number,
            BacktestJob.attempt == claimed.attempt,
            BacktestJob.status == "running",
        )
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    result = await session.execute(statement)
    return isinstance(result, CursorResult) and result.rowcount == 1
