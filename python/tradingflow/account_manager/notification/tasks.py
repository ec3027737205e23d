"""Celery's side of notifications: look at what happened, and send what is due."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.lone_task import lone_task
from tradingflow.account_manager.notification.collector import Collector
from tradingflow.account_manager.notification.delivery import Deliverer
from tradingflow.core.logging import get_logger

log = get_logger(__name__)


@lone_task("notification.collect")
async def collect(process: ExecutorProcess) -> None:
    """Write deliveries of what happened."""
    await Collector(process.sessions, process.clock).collect()


@lone_task("notification.deliver")
async def deliver(process: ExecutorProcess) -> None:
    """Send what is due; alone, since receivers that hang shall not take all processes."""
    try:
        await Deliverer(process.sessions, process.settings, process.http, process.clock).run()
    except DBAPIError as error:
        log.warning("deliveries interrupted", error=error.orig)
