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
# So many trades one task takes on, each of a few requests to the chain. A vault's owner decides how many wait.
LINE_TRADES = 5


@app.task(name=ADVANCE_TASK)
def advance(trade_id: str) -> None:
    """Take a trade as far as it gets, then some of the same vault that waited for it.

    The others wait behind what is in the queue by now. Where that message is lost, the sweep finds them.
    """
    process = this_process()
    following = process.run(_advance_line(process, trade_id))
    if following is not None:
        app.send_task(ADVANCE_TASK, [following], ignore_result=True)


async def _advance_line(process: ExecutorProcess, trade_id: str) -> str | None:
    """The trade to go on with, if there is one left."""
    following: str | None = trade_id
    for _ in range(LINE_TRADES):
        if following is None:
            break
        await _advance(process, following)
        following = await process.trades.next_after(following)
    return following


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
