"""Celery's side of the registry: tokens are read again, since those behind proxies change."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.lone_task import lone_task
from tradingflow.account_manager.token import repository
from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import get_logger

log = get_logger(__name__)

READ_AGAIN_AFTER = timedelta(days=1)
BATCH = 50


@lone_task("token.refresh")
async def refresh(process: ExecutorProcess) -> None:
    """Read the tokens again that were last read a day ago."""
    for chain_id in process.chains:
        await _refresh_chain(process, chain_id)


async def _refresh_chain(process: ExecutorProcess, chain_id: int) -> None:
    """The edge: what fails is said here, and the next tick tries again."""
    before = process.clock.now() - READ_AGAIN_AFTER
    try:
        async with process.sessions() as session:
            due = await repository.read_longest_ago(session, chain_id, before, BATCH)
        for token in due:
            async with process.sessions() as session, session.begin():
                await process.tokens.refresh(session, token)
    except TradingFlowError as error:
        log.warning("tokens not read again", chain_id=chain_id, code=error.code, detail=error.detail)
    except DBAPIError as error:
        log.warning("tokens not read again", chain_id=chain_id, error=error.orig)
