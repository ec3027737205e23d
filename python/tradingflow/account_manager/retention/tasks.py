"""Celery's side of retention: small transactions, so that nobody waits for them."""

from __future__ import annotations

from tradingflow.account_manager.celery_worker import app
from tradingflow.account_manager.executor_process import ExecutorProcess, this_process
from tradingflow.account_manager.retention import repository
from tradingflow.core.clock import SystemClock
from tradingflow.core.logging import get_logger

log = get_logger(__name__)

AT_ONCE = 1_000


@app.task(name="retention.sweep", ignore_result=True)
def sweep() -> None:
    """Delete what is past its time, by one process at a time."""
    process = this_process()
    process.run(_sweep(process))


async def _sweep(process: ExecutorProcess) -> None:
    async with process.alone("retention.sweep") as alone:
        if not alone:
            return
        total = 0
        while deleted := await _delete_some(process):
            total += deleted
        log.info("retention", deleted=total)


async def _delete_some(process: ExecutorProcess) -> int:
    async with process.sessions.begin() as session:
        return await repository.delete_some(session, SystemClock().now(), AT_ONCE)
