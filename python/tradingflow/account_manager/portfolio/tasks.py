"""Celery's side of the portfolio: every vault is valued from time to time, whether or not anybody looks."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.lone_task import lone_task
from tradingflow.account_manager.portfolio import repository
from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import get_logger
from tradingflow.db.models import Vault

log = get_logger(__name__)

VALUE_AGAIN_AFTER = timedelta(minutes=5)
BATCH = 200


@lone_task("portfolio.value")
async def value(process: ExecutorProcess) -> None:
    """Value the vaults last valued five minutes ago, the longest ago first."""
    before = process.clock.now() - VALUE_AGAIN_AFTER
    async with process.sessions() as session:
        due = await repository.valued_longest_ago(session, list(process.chains), before, BATCH)
    for vault in due:
        await _value_one(process, vault)


async def _value_one(process: ExecutorProcess, vault: Vault) -> None:
    """The edge: what fails is said here, and the next tick tries again."""
    try:
        await process.valuer.value_and_keep(vault, process.clock.now())
    except TradingFlowError as error:
        log.warning("vault not valued", vault=vault.address, code=error.code, detail=error.detail)
    except DBAPIError as error:
        log.warning("vault not valued", vault=vault.address, error=error.orig)
