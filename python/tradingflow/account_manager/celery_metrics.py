"""What the Celery worker and beat tell Prometheus, each on a port of its own.

Of the worker only the main process speaks: it hears from the pool how every task ended (`celery_pool`). So the
processes that do the work, which come and go, need no shared files and leave nothing behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any
from wsgiref.simple_server import WSGIServer

from celery import signals
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from tradingflow.account_manager.schedule import TICKS
from tradingflow.core.logging import get_logger

log = get_logger(__name__)

SUCCEEDED, FAILED, LOST = "succeeded", "failed", "lost"
TASKS = Counter("celery_tasks_total", "Tasks ended; lost ones took their process down", ["task", "outcome"])
DURATION = Histogram(
    "celery_task_duration_seconds",
    "Time a task ran",
    ["task"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)


def count_from_zero() -> None:
    """Make the scheduled tasks' counters appear before the first run, so that no run at all can be told."""
    for task in TICKS:
        TASKS.labels(task, SUCCEEDED)


def measure_beat(registry: CollectorRegistry = REGISTRY, seconds: Callable[[], float] = time.monotonic) -> None:
    """Tell how long, by these `seconds`, beat has handed nothing to RabbitMQ; counted from now on."""
    last = seconds()

    def confirmed(**_: Any) -> None:
        nonlocal last
        last = seconds()

    # Sent when the broker has confirmed the message.
    signals.after_task_publish.connect(confirmed, weak=False)
    idle = Gauge("celery_beat_idle_seconds", "Time since RabbitMQ took the last tick", registry=registry)
    idle.set_function(lambda: seconds() - last)


def serve_metrics(host: str, port: int) -> WSGIServer | None:
    """Answer Prometheus in a thread of this process; None with port 0, and where the port is taken.

    No trade waits for a port: an alert tells that nobody answers there.
    """
    if not port:
        return None
    try:
        server, _ = start_http_server(port, host)
    except OSError as error:
        log.warning("metrics are not served", host=host, port=port, error=error)
        return None
    # A process of the pool would hold the port beyond the end of the worker.
    os.register_at_fork(after_in_child=server.socket.close)
    return server
