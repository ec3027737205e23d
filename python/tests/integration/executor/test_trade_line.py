"""The Celery task that takes the trades of one vault one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

import pytest

from devstack.executor_world import World
from tradingflow.account_manager.celery_worker import app
from tradingflow.account_manager.trade import tasks
from tradingflow.account_manager.trade.requests import ADVANCE_TASK

NOTHING_LEFT_BPS = 10_000


async def test_a_long_line_is_taken_some_trades_at_a_time_behind_what_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()

    def run(work: Coroutine[Any, Any, str | None]) -> str | None:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    process = SimpleNamespace(trades=world.executor(), run=run)
    monkeypatch.setattr(tasks, "this_process", lambda: process)
    monkeypatch.setattr(app, "send_task", send := Mock())
    line = [await world.request_trade(slippage_bps=NOTHING_LEFT_BPS) for _ in range(2 * tasks.LINE_TRADES + 1)]
    for ended in (tasks.LINE_TRADES, 2 * tasks.LINE_TRADES):
        await asyncio.to_thread(tasks.advance, line[ended - tasks.LINE_TRADES])
        statuses = [(await world.trade(identity)).status for identity in line]
        assert statuses == ["failed"] * ended + ["requested"] * (len(line) - ended)
        assert send.call_args == call(ADVANCE_TASK, [line[ended]], ignore_result=True)
    send.reset_mock()
    await asyncio.to_thread(tasks.advance, line[-1])
    assert (await world.trade(line[-1])).status == "failed"
    send.assert_not_called()
