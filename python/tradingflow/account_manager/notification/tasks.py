"""Celery's side of notifications: look at what happened, and send what is due."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from tradingflow.account_manager.celery_worker import app
from tradingflow.account_manager.executor_process import ExecutorProcess, this_process
from tradingflow.account_manager.notification.collector import Collector
from tradingflow.account_manager.notification.delivery import Deliverer
from tradingflow.core.clock import SystemClock
from tradingflow.core.logging import get_logger

log = get_logger(__name__)


@app.task(name="notification.collect", ignore_result=True)
def collect() -> None:
    """Write deliveries of what happened, by one process at a time."""
    process = this_process()
    process.run(_collect(process))


async def _collect(process: ExecutorProcess) -> None:
    async with process.alone("notification.collect") as alone:
        if alone:
            await Collector(process.sessions, SystemClock()).collect()


@app.task(name="notification.deliver", ignore_result=True)
def deliver() -> None:
    """Send what is due, by one process at a time: receivers that hang shall not take all of them."""
    process = this_process()
    process.run(_deliver(process))


async def _deliver(process: ExecutorProcess) -> None:
    async with process.alone("notification.deliver") as alone:
        if not alone:
            return
        try:
            await Deliverer(process.sessions, process.settings, process.http, SystemClock()).run()
        except DBAPIError as error:
            log.warning("deliveries interrupted", error=error.orig)
