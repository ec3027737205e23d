"""Celery's side of prices."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.lone_task import lone_task
from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import get_logger

log = get_logger(__name__)


@lone_task("price.refresh")
async def refresh(process: ExecutorProcess) -> None:
    """Ask all markets of all chains."""
    for chain_id in process.chains:
        await _refresh_one(process, chain_id)


async def _refresh_one(process: ExecutorProcess, chain_id: int) -> None:
    """The edge: what fails is said here, and the next tick tries again."""
    try:
        await process.price_refresh.run(chain_id)
    except TradingFlowError as error:
        log.warning("prices not refreshed", chain_id=chain_id, code=error.code, detail=error.detail)
    except DBAPIError as error:
        log.warning("prices not refreshed", chain_id=chain_id, error=error.orig)
