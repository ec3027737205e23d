"""What `/tasks` shows of the jobs, and that a doubled beat starts none twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import update

from tests.integration.account_manager.conftest import Session
from tradingflow.account_manager import lone_task
from tradingflow.account_manager.celery_worker import app
from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.schedule import TICKS
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.config import AccountManagerSettings, ExecutorSettings
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import JobRun

JOB = "price.refresh"


@pytest.fixture
async def process(settings: AccountManagerSettings) -> AsyncIterator[ExecutorProcess]:
    database_url = SecretStr(settings.database_dsn)
    process = ExecutorProcess(ExecutorSettings(database_url=database_url, chains=settings.chains))
    yield process
    await asyncio.to_thread(process.close)


def run(process: ExecutorProcess, name: str = JOB, error: Exception | None = None) -> bool:
    """Do the job once, failing with `error`; whether it was our turn."""

    async def job() -> bool:
        async with process.alone(name) as alone:
            if alone and error is not None:
                raise error
            return alone

    return process.run(job())


async def test_every_job_is_listed_before_its_first_run(alice: Session) -> None:
    jobs = (await alice.get("/tasks")).json()
    assert {job["name"] for job in jobs} == set(TICKS)
    assert {job["status"] for job in jobs} == {"waiting"}


async def test_a_run_is_listed_with_its_end_duration_and_the_next_one(
    alice: Session, process: ExecutorProcess, clock: SimulatedClock
) -> None:
    assert await asyncio.to_thread(run, process)
    job = next(job for job in (await alice.get("/tasks")).json() if job["name"] == JOB)
    assert (job["status"], job["runs"], job["failures"], job["last_error"]) == ("succeeded", 1, 0, None)
    assert job["last_finished_at"] >= job["last_started_at"]
    assert job["last_duration_ms"] >= 0
    assert job["next_run_at"] > job["last_started_at"]
    clock.advance_to(clock.now() + timedelta(minutes=10))
    job = next(job for job in (await alice.get("/tasks")).json() if job["name"] == JOB)
    assert job["status"] == "overdue"


async def test_a_failure_is_listed_without_what_it_may_have_held(alice: Session, process: ExecutorProcess) -> None:
    with pytest.raises(ValueError, match="secret"):
        await asyncio.to_thread(run, process, JOB, ValueError("a user's secret"))
    with pytest.raises(DependencyUnavailable):
        await asyncio.to_thread(run, process, "token.refresh", DependencyUnavailable("rpc_down", "no node answers"))
    jobs = {job["name"]: job for job in (await alice.get("/tasks")).json()}
    assert (jobs[JOB]["status"], jobs[JOB]["last_error"], jobs[JOB]["failures"]) == ("failed", "ValueError", 1)
    assert jobs["token.refresh"]["last_error"] == "rpc_down: no node answers"


async def test_the_tick_of_a_second_beat_starts_nothing_and_the_next_period_does(
    process: ExecutorProcess, sessions: SessionFactory
) -> None:
    assert await asyncio.to_thread(run, process)
    assert not await asyncio.to_thread(run, process)
    every = TICKS[JOB].every
    for age, due in ((every * 0.5, False), (every * 0.9, True)):
        async with sessions.begin() as session:
            await session.execute(update(JobRun).values(started_at=JobRun.started_at - age))
        assert await asyncio.to_thread(run, process) is due


async def test_a_job_that_runs_is_not_started_beside_itself(
    process: ExecutorProcess, settings: AccountManagerSettings
) -> None:
    other = ExecutorProcess(ExecutorSettings(database_url=SecretStr(settings.database_dsn), chains=settings.chains))

    async def while_running() -> bool:
        async with process.alone("unscheduled") as alone:
            assert alone
            return await asyncio.to_thread(run, other, "unscheduled")

    try:
        assert not await asyncio.to_thread(process.run, while_running())
        assert await asyncio.to_thread(run, other, "unscheduled")
    finally:
        await asyncio.to_thread(other.close)


async def test_of_all_slow_jobs_one_runs_at_a_time_and_the_others_go_on(
    process: ExecutorProcess, settings: AccountManagerSettings
) -> None:
    other = ExecutorProcess(ExecutorSettings(database_url=SecretStr(settings.database_dsn), chains=settings.chains))

    async def while_running() -> dict[str, bool]:
        async with process.alone("performance.price") as alone:
            assert alone
            return {name: await asyncio.to_thread(run, other, name) for name in TICKS}

    try:
        beside = await asyncio.to_thread(process.run, while_running())
        assert beside == {name: not tick.slow for name, tick in TICKS.items()}
        assert await asyncio.to_thread(run, other, "portfolio.value")
    finally:
        await asyncio.to_thread(other.close)


async def test_a_slow_job_that_is_due_often_does_not_starve_those_due_less_often(
    process: ExecutorProcess, sessions: SessionFactory
) -> None:
    slow = [name for name, tick in TICKS.items() if tick.slow]
    for name in slow:
        assert await asyncio.to_thread(run, process, name)
    # All are late: each goes once, in the order in which they began.
    async with sessions.begin() as session:
        await session.execute(update(JobRun).values(started_at=JobRun.started_at - timedelta(minutes=2)))
    for place, name in enumerate(slow):
        for later in slow[place + 1 :]:
            assert not await asyncio.to_thread(run, process, later)
        assert await asyncio.to_thread(run, process, name)
    # None but the one due each second is late: it waits for nobody.
    async with sessions.begin() as session:
        await session.execute(update(JobRun).values(started_at=JobRun.started_at - timedelta(seconds=5)))
    assert await asyncio.to_thread(run, process, "notification.deliver")


async def test_a_lone_task_does_its_job_when_it_is_its_turn_and_only_then(
    process: ExecutorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, done = "tests.lone", list[ExecutorProcess]()
    monkeypatch.setattr(lone_task, "this_process", lambda: process)

    @lone_task.lone_task(name)
    async def _(given: ExecutorProcess) -> None:
        done.append(given)

    await asyncio.to_thread(app.tasks[name])
    assert done == [process]

    async def while_running() -> None:
        async with process.alone(name) as alone:
            assert alone
            held.set()
            await asyncio.to_thread(release.wait)

    held, release = threading.Event(), threading.Event()
    running = asyncio.create_task(asyncio.to_thread(process.run, while_running()))
    assert await asyncio.to_thread(held.wait, 10)
    await asyncio.to_thread(app.tasks[name])
    release.set()
    await running
    assert done == [process]


def test_every_job_of_the_schedule_is_a_task_of_the_worker() -> None:
    app.loader.import_default_modules()
    assert set(TICKS) <= set(app.tasks)
