"""A worker on a machine a day ahead: it goes by the database, and does nothing before it could ask."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.worker.conftest import StartWorker
from tests.integration.wrong_clock import is_now, step_ahead
from tradingflow.core.tasks import running
from tradingflow.db.clock import DatabaseClock
from tradingflow.db.engine import SessionFactory
from tradingflow.py_worker import retention, scheduler
from tradingflow.py_worker.retention import HistoryLimits, Retention
from tradingflow.py_worker.scheduler import Scheduler

WITHIN_S = 30


async def test_it_goes_by_the_database(start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    step_ahead(monkeypatch)
    async with start_worker() as app:
        assert is_now(app.state.parts.clock.now())


@pytest.fixture
def late(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> DatabaseClock:
    """A clock whose database was away at the first look."""
    step_ahead(monkeypatch)
    look, looks = DatabaseClock.look, iter([False])

    async def look_in_vain_first(clock: DatabaseClock) -> None:
        if next(looks, True):
            await look(clock)
        else:
            raise ConnectionRefusedError

    monkeypatch.setattr(DatabaseClock, "look", look_in_vain_first)
    return DatabaseClock(engine)


async def time_of_first(
    step: str, part: Scheduler | Retention, clock: DatabaseClock, monkeypatch: pytest.MonkeyPatch
) -> datetime:
    """Run a part of the worker until it takes the step for the first time; what its clock says then."""
    taken: asyncio.Future[datetime] = asyncio.get_running_loop().create_future()

    async def take() -> int:
        if not taken.done():
            taken.set_result(clock.now())
        return 0

    monkeypatch.setattr(part, step, take)
    async with asyncio.timeout(WITHIN_S), running(part.run()):
        return await taken


async def test_no_flow_fires_before_the_time_is_known(
    late: DatabaseClock, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "RETRY_S", 0.01)
    assert is_now(await time_of_first("tick", Scheduler(sessions, late, 4), late, monkeypatch))


async def test_nothing_is_deleted_by_age_before_the_time_is_known(
    late: DatabaseClock, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PERIOD_S", 0.01)
    sweeper = Retention(sessions, late, HistoryLimits(None, None))
    assert is_now(await time_of_first("sweep", sweeper, late, monkeypatch))
