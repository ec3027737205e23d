from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter

from tradingflow.account_manager.dependencies import Reads, TheParts
from tradingflow.account_manager.job import repository
from tradingflow.account_manager.job.schemas import JobResponse, JobStatus
from tradingflow.account_manager.schedule import TICKS, Tick
from tradingflow.db.models import JobRun
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/tasks", tags=["jobs"], responses=error_responses(401, 403, 429))

OVERDUE_PERIODS = 3


@router.get("")
async def list_jobs(_: CurrentUser, parts: TheParts, session: Reads) -> list[JobResponse]:
    """Every scheduled job: its last run, how long that took, and when it runs next."""
    runs, now = await repository.last_runs(session), parts.clock.now()
    return [_response(tick, runs.get(tick.task), now) for tick in TICKS.values()]


def _response(tick: Tick, run: JobRun | None, now: datetime) -> JobResponse:
    return JobResponse(
        name=tick.task,
        purpose=tick.purpose,
        every_s=tick.every.total_seconds(),
        status=_status(tick, run, now),
        last_started_at=run.started_at if run else None,
        last_finished_at=run.finished_at if run else None,
        last_duration_ms=run.duration_ms if run else None,
        last_error=run.error if run else None,
        next_run_at=max(now, run.started_at + tick.every) if run else None,
        runs=run.runs if run else 0,
        failures=run.failures if run else 0,
    )


def _status(tick: Tick, run: JobRun | None, now: datetime) -> JobStatus:
    if run is None:
        return "waiting"
    if now - run.started_at > OVERDUE_PERIODS * tick.every:
        return "overdue"
    if run.finished_at is None:
        return "running"
    return "failed" if run.error else "succeeded"
