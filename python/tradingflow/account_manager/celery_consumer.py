"""Celery's consumer, with a guard: Celery trusts that a task message has an id, and dies of one that has none."""

from __future__ import annotations

from typing import Any

from celery.worker.consumer.consumer import Consumer

from tradingflow.core.logging import get_logger

log = get_logger(__name__)


class StrictConsumer(Consumer):
    """Rejects, for good, what is no task message of protocol 2 (which all our senders speak)."""

    def create_task_handler(self, *arguments: Any, **options: Any) -> Any:
        handle = super().create_task_handler(*arguments, **options)

        def on_message(message: Any) -> Any:
            headers = message.headers or {}
            if all(isinstance(headers.get(name), str) for name in ("id", "task")):
                return handle(message)
            log.warning("malformed task message dropped", headers=sorted(headers))
            message.reject()
            return None

        return on_message
