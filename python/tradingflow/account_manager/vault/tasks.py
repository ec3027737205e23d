"""Celery's side of vault deployments: advance one now, and sweep all that have not ended."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.exc import DBAPIError

from tradingflow.account_manager.celery_worker import app
from tradingflow.account_manager.executor_process import ExecutorProcess, this_process
from tradingflow.account_manager.lone_task import lone_task
from tradingflow.account_manager.vault import deployment_repository as repository
from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import get_logger

log = get_logger(__name__)

SWEEP_BATCH = 200


@app.task(name="vault.deploy")
def deploy(deployment_id: str) -> None:
    """Take a deployment as far as it gets."""
    process = this_process()
    process.run(_advance(process, UUID(deployment_id)))


@lone_task("vault.sweep")
async def sweep(process: ExecutorProcess) -> None:
    """The safety net of beat: every deployment that has not ended is looked at."""
    async with process.sessions() as session:
        waiting = await repository.open_ids(session, SWEEP_BATCH)
    for deployment_id in waiting:
        await _advance(process, deployment_id)


async def _advance(process: ExecutorProcess, deployment_id: UUID) -> None:
    """The edge: what fails is said here, and the next sweep tries again."""
    try:
        await process.deployments.advance(deployment_id)
    except TradingFlowError as error:
        log.warning("deployment not advanced", deployment_id=str(deployment_id), code=error.code, detail=error.detail)
    except DBAPIError as error:
        log.warning("deployment not advanced", deployment_id=str(deployment_id), error=error.orig)
