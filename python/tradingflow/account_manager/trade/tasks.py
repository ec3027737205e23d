"""Celery's side of trades: advance one now, and sweep all that are not final."""

from __future__ import annotations

import asyncio

from tradingflow.account_manager.celery_worker import app
from tradingflow.account_manager.executor_process import ExecutorProcess, this_process
from tradingflow.account_manager.sweep_edge import only_said
from tradingflow.account_manager.trade import repository
from tradingflow.account_manager.trade.requests import ADVANCE_TASK
from tradingflow.db.models import Trade

SWEEP_BATCH = 500
SWEEP_CONCURRENCY = 8


@app.task(name=ADVANCE_TASK)
def advance(trade_id: str) -> None:
    """Take a trade as far as it gets, then the ones of the same vault that waited for it."""
    process = this_process()
    process.run(_advance_line(process, trade_id))


async def _advance_line(process: ExecutorProcess, trade_id: str) -> None:
    following: str | None = trade_id
    while following is not None:
        await _advance(process, following)
        following = await process.trades.next_after(following)


async def _advance(process: ExecutorProcess, trade_id: str) -> None:
    with only_said("trade not advanced", trade_id=trade_id):
        await process.trades.advance(trade_id)


@app.task(name="trade.sweep", ignore_result=True)
def sweep() -> None:
    """The safety net of beat: every trade that is not final is looked at, by one sweep at a time."""
    process = this_process()
    process.run(_sweep(process))


async def _sweep(process: ExecutorProcess) -> None:
    await process.register_signers()
    async with process.alone("trade.sweep") as alone:
        if not alone:
            return
        slots = asyncio.Semaphore(SWEEP_CONCURRENCY)

        async def one(trade: Trade) -> None:
            async with slots:
                await _advance(process, trade.id)

        last: Trade | None = None
        while batch := await _batch_after(process, last):
            async with asyncio.TaskGroup() as group:
                for trade in batch:
                    group.create_task(one(trade))
            last = batch[-1]


async def _batch_after(process: ExecutorProcess, last: Trade | None) -> list[Trade]:
    async with process.sessions() as session:
        return await repository.unsettled(session, SWEEP_BATCH, (last.created_at, last.id) if last else None)
