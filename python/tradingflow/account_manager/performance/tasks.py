"""Celery's side of performance: prices are found while the chain's node still has the state of their blocks."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.exc import DBAPIError

from tradingflow.account_manager.celery_worker import app
from tradingflow.account_manager.executor_process import ExecutorProcess, this_process
from tradingflow.account_manager.lone_task import lone_task
from tradingflow.account_manager.performance import repository
from tradingflow.account_manager.performance.service import PRICE_TASK
from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import get_logger
from tradingflow.db.models import Vault

log = get_logger(__name__)

# Ordinary nodes keep the state of the last 128 blocks.
NEWS_BLOCKS = 128


@app.task(name=PRICE_TASK, ignore_result=True)
def price_vault(vault_id: str) -> None:
    """Find the prices one vault's figures lack: somebody has asked for them."""
    process = this_process()
    process.run(_price_by_id(process, UUID(vault_id)))


@lone_task("performance.price")
async def price(process: ExecutorProcess) -> None:
    """Find the prices of all vaults with recent events."""
    for chain_id in process.chains:
        async with process.sessions() as session:
            next_block = await repository.next_block(session, chain_id)
            vaults = await repository.vaults_with_news(session, chain_id, (next_block or 0) - NEWS_BLOCKS)
        for vault in vaults:
            await _price_one(process, vault)


async def _price_by_id(process: ExecutorProcess, vault_id: UUID) -> None:
    async with process.sessions() as session:
        vault = await repository.vault_by_id(session, vault_id)
    if vault is not None and vault.chain_id in process.chains:
        await _price_one(process, vault)


async def _price_one(process: ExecutorProcess, vault: Vault) -> None:
    """The edge: what fails is said here, and the next tick tries again."""
    try:
        await process.block_pricing.price(vault)
    except TradingFlowError as error:
        log.warning("prices of a vault not found", vault=vault.address, code=error.code, detail=error.detail)
    except DBAPIError as error:
        log.warning("prices of a vault not found", vault=vault.address, error=error.orig)
