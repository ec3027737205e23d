"""Celery's side of the portfolio: every vault is valued from time to time, whether or not anybody looks."""

from __future__ import annotations

from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.lone_task import lone_task


@lone_task("portfolio.value")
async def value(process: ExecutorProcess) -> None:
    """One round on each chain."""
    for chain_id in process.chains:
        await process.valuation_rounds.run(chain_id)
