"""Celery's pool of processes, which counts what becomes of each task before Celery itself hears of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from celery.concurrency.prefork import TaskPool

from tradingflow.account_manager.celery_metrics import DURATION, FAILED, LOST, SUCCEEDED, TASKS

Callback = Callable[..., Any]


class MeasuredPool(TaskPool):
    """Counts in the worker's main process, by task: only names of registered tasks come this far."""

    def apply_async(self, target: Callback, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """As Celery calls it: `args` begin with the task's name, and each of the two callbacks hears one end."""
        task = args[0]
        options["callback"] = _both(partial(_ended, task), options["callback"])
        options["error_callback"] = _both(partial(_lost, task), options["error_callback"])
        return super().apply_async(target, args, kwargs, **options)


def _both(first: Callback, then: Callback) -> Callback:
    def callback(end: Any, **options: Any) -> None:
        # Celery frees the task's place in the pool when it hears of its end: nothing may keep that from it.
        try:
            first(end)
        finally:
            then(end, **options)

    return callback


def _ended(task: str, end: tuple[bool | int, object, float | None]) -> None:
    """How long a task ran that raised, Celery does not always say."""
    failed, _, seconds = end
    TASKS.labels(task, FAILED if failed else SUCCEEDED).inc()
    if seconds is not None:
        DURATION.labels(task).observe(seconds)


def _lost(task: str, _: object) -> None:
    TASKS.labels(task, LOST).inc()
