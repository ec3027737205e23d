"""The services go by the database server's clock, whatever becomes of the machine's."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tests.integration.wrong_clock import step_ahead
from tradingflow.core.clock import SteadyClock
from tradingflow.db import clock as db_clock
from tradingflow.db.clock import DatabaseClock, database_clock, ensure_known

NEAR = timedelta(seconds=1)


async def database_time(engine: AsyncEngine) -> datetime:
    async with engine.connect() as connection:
        at: datetime | None = await connection.scalar(select(func.clock_timestamp()))
    assert at is not None
    return at


async def test_a_machine_a_day_ahead_goes_by_the_database(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    step_ahead(monkeypatch)
    async with database_clock(engine) as clock:
        assert abs(clock.now() - await database_time(engine)) < NEAR


def test_a_step_of_the_machines_clock_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SteadyClock()
    before = clock.now()
    step_ahead(monkeypatch)
    assert timedelta(0) <= clock.now() - before < NEAR


async def test_a_counter_that_stood_still_is_set_right_by_the_next_look(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that was suspended."""
    clock = DatabaseClock(engine)
    await clock.look()
    counted = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: counted() - 3600)
    assert await database_time(engine) - clock.now() > timedelta(minutes=59)
    await clock.look()
    assert abs(clock.now() - await database_time(engine)) < NEAR


async def test_a_look_that_took_long_is_not_believed(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = DatabaseClock(engine)
    await clock.look()
    before = clock.now()
    monkeypatch.setattr(db_clock, "LONGEST_LOOK_S", -1.0)
    clock._set(before + timedelta(days=1), time.monotonic())
    await clock.look()
    assert clock.now() - before > timedelta(hours=23)


async def test_the_first_look_is_believed_however_long_it_took(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db_clock, "LONGEST_LOOK_S", -1.0)
    step_ahead(monkeypatch)
    clock = DatabaseClock(engine)
    await ensure_known(clock)
    assert abs(clock.now() - await database_time(engine)) < NEAR


async def test_what_must_know_the_time_is_told_when_nobody_can_say(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = DatabaseClock(create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:9/none"))
    with pytest.raises(OSError, match=r"refused|failed"):
        await ensure_known(clock)


async def test_a_look_that_is_never_answered_is_given_up(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db_clock, "LOOK_TIMEOUT_S", 0.0)
    clock = DatabaseClock(engine)
    await clock.try_to_look()
    assert not clock.is_known


async def test_without_a_database_it_is_the_machines_time_until_one_answers(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, in_vain = DatabaseClock.look, asyncio.Event()

    async def told_look(clock: DatabaseClock) -> None:
        try:
            await look(clock)
        except OSError:
            in_vain.set()
            raise

    monkeypatch.setattr(DatabaseClock, "look", told_look)
    monkeypatch.setattr(db_clock, "RETRY_S", 0.01)
    away = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:9/none")
    async with database_clock(away) as clock, asyncio.timeout(30):
        assert abs(clock.now() - datetime.now(UTC)) < NEAR
        in_vain.clear()
        await in_vain.wait()
        clock._set(datetime.now(UTC) + timedelta(days=1), time.monotonic())
        monkeypatch.setattr(clock, "_engine", engine)
        while clock.now() - datetime.now(UTC) > NEAR:  # noqa: ASYNC110 - a clock sets no event
            await asyncio.sleep(0.01)
