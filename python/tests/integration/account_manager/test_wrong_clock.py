"""On a machine a day ahead the Account Manager, its executor and beat go by the right time."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest
from pydantic import SecretStr

from tests.integration.account_manager.conftest import running
from tests.integration.wrong_clock import is_now, step_ahead
from tradingflow.account_manager.celery_worker import app as celery
from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.server import create_app
from tradingflow.core.config import AccountManagerSettings, ExecutorSettings
from tradingflow.db.clock import DatabaseClock

WITHIN_S = 30


async def test_the_server_goes_by_the_database(
    settings: AccountManagerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_ahead(monkeypatch)
    app = create_app(settings)
    async with running(app):
        assert is_now(app.state.parts.clock.now())


async def test_what_trades_and_what_deletes_by_age_goes_by_the_database(
    settings: AccountManagerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_ahead(monkeypatch)
    process = ExecutorProcess(ExecutorSettings(database_url=SecretStr(settings.database_dsn), chains=settings.chains))
    try:
        async with asyncio.timeout(WITHIN_S):
            while not is_now(process.clock.now()):  # noqa: ASYNC110 - a clock sets no event
                await asyncio.sleep(0.02)
        assert is_now(process.relayer.clock.now())
    finally:
        await asyncio.to_thread(process.close)


async def test_a_process_whose_first_look_was_in_vain_looks_again_before_it_works(
    settings: AccountManagerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_ahead(monkeypatch)
    monkeypatch.setattr(DatabaseClock, "keep", lambda _: asyncio.sleep(WITHIN_S))
    process = ExecutorProcess(ExecutorSettings(database_url=SecretStr(settings.database_dsn), chains=settings.chains))

    async def work() -> datetime:
        return process.clock.now()

    try:
        assert is_now(await asyncio.to_thread(lambda: process.run(work())))
    finally:
        await asyncio.to_thread(process.close)


async def test_a_process_that_cannot_know_the_time_does_not_work(
    settings: AccountManagerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look(_: DatabaseClock) -> None:
        raise TimeoutError

    monkeypatch.setattr(DatabaseClock, "look", look)
    process = ExecutorProcess(ExecutorSettings(database_url=SecretStr(settings.database_dsn), chains=settings.chains))
    worked: list[str] = []

    async def work() -> None:
        worked.append("on this machine's word")

    try:
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(lambda: process.run(work()))
        assert worked == []
    finally:
        await asyncio.to_thread(process.close)


def test_no_tick_is_judged_by_two_machines_clocks() -> None:
    assert all("expires" not in entry["options"] for entry in celery.conf.beat_schedule.values())


def test_beat_counts_on_when_the_clock_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    step_ahead(monkeypatch)
    assert all(is_now(entry["schedule"].now()) for entry in celery.conf.beat_schedule.values())
