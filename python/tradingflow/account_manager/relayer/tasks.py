"""Celery's side of the relayer: a look at every signer's nonces."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.lone_task import lone_task
from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import get_logger

log = get_logger(__name__)


@lone_task("relayer.heal")
async def heal(process: ExecutorProcess) -> None:
    """Fill nonce gaps and report what is stuck."""
    for chain_id in process.chains:
        for signer in process.relayer.signers.addresses:
            await _heal_one(process, chain_id, signer)


async def _heal_one(process: ExecutorProcess, chain_id: int, signer: str) -> None:
    """The edge: what fails is said here, and the next tick tries again."""
    try:
        await process.healer.heal(chain_id, signer)
    except TradingFlowError as error:
        log.warning("signer not healed", chain_id=chain_id, signer=signer, code=error.code, detail=error.detail)
    except DBAPIError as error:
        log.warning("signer not healed", chain_id=chain_id, signer=signer, error=error.orig)
