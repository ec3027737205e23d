"""Celery's side of retention: small transactions, so that nobody waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.lone_task import lone_task
from tradingflow.account_manager.retention import repository
from tradingflow.core.logging import get_logger

log = get_logger(__name__)

AT_ONCE = 1_000


@lone_task("retention.sweep")
async def sweep(process: ExecutorProcess) -> None:
    """Delete what is past its time."""
    total = 0
    while deleted := await _delete_some(process):
        total += deleted
    log.info("retention", deleted=total, valuations=await _thin_valuations(process))


async def _thin_valuations(process: ExecutorProcess) -> int:
    total, last = 0, None
    while vaults := await _vaults_after(process, last):
        for last in vaults:
            async with process.sessions.begin() as session:
                total += await repository.thin_valuations(session, last, process.clock.now())
    return total


async def _vaults_after(process: ExecutorProcess, last: UUID | None) -> Sequence[UUID]:
    async with process.sessions() as session:
        return await repository.vaults_after(session, last, AT_ONCE)


async def _delete_some(process: ExecutorProcess) -> int:
    async with process.sessions.begin() as session:
        return await repository.delete_some(session, process.clock.now(), AT_ONCE)
