"""Celery's side of vault deployments: advance one now, and sweep all that have not ended."""

from __future__ import annotations

from uuid import UUID

from tradingflow.account_manager.celery_worker import app
from tradingflow.account_manager.executor_process import ExecutorProcess, this_process
from tradingflow.account_manager.lone_task import lone_task
from tradingflow.account_manager.sweep_edge import only_said
from tradingflow.account_manager.vault import deployment_repository as repository
from tradingflow.db.models import VaultDeployment

SWEEP_BATCH = 200


@app.task(name="vault.deploy")
def deploy(deployment_id: str) -> None:
    """Take a deployment as far as it gets."""
    process = this_process()
    process.run(_advance(process, UUID(deployment_id)))


@lone_task("vault.sweep")
async def sweep(process: ExecutorProcess) -> None:
    """The safety net of beat: every deployment that has not ended is looked at."""
    last: VaultDeployment | None = None
    while batch := await _batch_after(process, last):
        for deployment in batch:
            await _advance(process, deployment.id)
        last = batch[-1]


async def _batch_after(process: ExecutorProcess, last: VaultDeployment | None) -> list[VaultDeployment]:
    async with process.sessions() as session:
        return await repository.unended(session, SWEEP_BATCH, (last.created_at, last.id) if last else None)


async def _advance(process: ExecutorProcess, deployment_id: UUID) -> None:
    with only_said("deployment not advanced", deployment_id=str(deployment_id)):
        await process.deployments.advance(deployment_id)
