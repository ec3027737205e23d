"""Handing work to the Celery workers. The web process knows tasks by name only: it never loads code that holds keys."""

from __future__ import annotations

import asyncio
from typing import Any

from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import get_logger

log = get_logger(__name__)

TASK_QUEUE = "celery.tasks"
# A task that took its worker down this often is given up; the sweeps find its work again.
TASK_QUEUE_ARGUMENTS = {"x-queue-type": "quorum", "x-delivery-limit": 20}
CONNECT_TIMEOUT_S = 5
RETRY_POLICY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}


class JobQueue:
    """Sends tasks with broker confirms. A lost task is no lost work: beat sweeps rows that nobody has begun."""

    def __init__(self, rabbitmq_dsn: str) -> None:
        self._app = Celery("tradingflow.web", broker=rabbitmq_dsn, set_as_current=False)
        self._app.conf.update(
            task_serializer="json",
            accept_content=["json"],
            task_default_queue=TASK_QUEUE,
            task_queues=[Queue(TASK_QUEUE, queue_arguments=TASK_QUEUE_ARGUMENTS)],
            task_ignore_result=True,
            broker_transport_options={"confirm_publish": True},
            broker_connection_timeout=CONNECT_TIMEOUT_S,
        )

    async def send(self, name: str, *args: Any) -> None:
        """Raises DependencyUnavailable when the broker does not take it."""
        try:
            await asyncio.to_thread(
                self._app.send_task, name, args, ignore_result=True, retry=True, retry_policy=RETRY_POLICY
            )
        except (OperationalError, OSError) as error:
            raise DependencyUnavailable("queue_unavailable", "RabbitMQ does not take tasks now") from error

    async def send_soon(self, name: str, *args: Any) -> None:
        """Send after the answer; a broker that is away is logged, since the sweep will find the work."""
        try:
            await self.send(name, *args)
        except DependencyUnavailable as error:
            log.warning("task left to the sweep", task=name, error=error)

    def close(self) -> None:
        self._app.close()
