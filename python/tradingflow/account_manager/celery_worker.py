"""Celery: the Account Manager's scheduled and background work. Run from `python/`:

    celery -A tradingflow.account_manager.celery_worker worker
    celery -A tradingflow.account_manager.celery_worker beat

RabbitMQ carries the tasks (JSON only, confirmed, quorum queue, acknowledged when done), Redis keeps results. Beat keeps
no state: every entry is a tick that only looks for due work in the database, so a second beat doubles nothing.
Operator keys are read in the worker's processes only; importing this module loads none.
"""

from __future__ import annotations

import gc
import logging
from typing import Any

from celery import Celery, signals
from celery.schedules import schedule
from kombu import Queue
from pydantic import ValidationError

from tradingflow.account_manager.celery_metrics import count_from_zero, measure_beat, serve_metrics
from tradingflow.account_manager.executor_process import close_process, open_process
from tradingflow.account_manager.job_queue import TASK_QUEUE, TASK_QUEUE_ARGUMENTS
from tradingflow.account_manager.relayer.signers import SignerSet
from tradingflow.account_manager.schedule import TICKS
from tradingflow.account_manager.trade.requests import TradeRequests
from tradingflow.core.clock import SteadyClock
from tradingflow.core.config import BeatSettings, ExecutorSettings, PlatformSettings
from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import configure_logging

# Modules whose tasks a worker can run; each registers them with `app` when it is imported.
TASK_MODULES = (
    "tradingflow.account_manager.notification.tasks",
    "tradingflow.account_manager.performance.tasks",
    "tradingflow.account_manager.portfolio.tasks",
    "tradingflow.account_manager.price.tasks",
    "tradingflow.account_manager.relayer.tasks",
    "tradingflow.account_manager.retention.tasks",
    "tradingflow.account_manager.token.tasks",
    "tradingflow.account_manager.trade.tasks",
    "tradingflow.account_manager.vault.tasks",
)

# A machine whose clock is set back would otherwise start nothing until it has caught up.
_STEADY = SteadyClock()

# A tick nobody took before the next one is worth nothing. The broker lets go of it: `expires` would compare beat's
# clock with the worker's, and drop every tick where they differ by seconds.
BEAT = {
    tick.task: {
        "task": tick.task,
        "schedule": schedule(tick.every, nowfun=_STEADY.now),
        "options": {"expiration": tick.expires_s, "ignore_result": True},
    }
    for tick in TICKS.values()
}

# Opening the database and the chains may take longer than the 4 s Celery gives a new process by default.
PROCESS_START_TIMEOUT_S = 30.0
RESULT_LIFE_S = 86_400


def make_app(settings: PlatformSettings) -> Celery:
    """The Celery app of these settings; nothing connects yet."""
    app = Celery(
        "tradingflow.account_manager",
        broker=settings.rabbitmq_dsn,
        backend=settings.redis_dsn,
        include=TASK_MODULES,
    )
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_default_queue=TASK_QUEUE,
        task_queues=[Queue(TASK_QUEUE, queue_arguments=TASK_QUEUE_ARGUMENTS)],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=PROCESS_START_TIMEOUT_S,
        broker_transport_options={"confirm_publish": True},
        broker_connection_retry_on_startup=True,
        result_expires=RESULT_LIFE_S,
        enable_utc=True,
        timezone="UTC",
        beat_scheduler="celery.beat:Scheduler",
        beat_schedule=BEAT,
    )
    app.conf.worker_pool = "tradingflow.account_manager.celery_pool:MeasuredPool"
    app.conf.worker_consumer = "tradingflow.account_manager.celery_consumer:StrictConsumer"
    app.steps["consumer"].add(TradeRequests)
    return app


app = make_app(PlatformSettings())


@signals.setup_logging.connect
def _log_as_the_services_do(**_: Any) -> None:
    settings = PlatformSettings()
    configure_logging("celery", settings.log_level, json=settings.log_format == "json", directory=settings.log_dir)
    # A line for each tick, sent, received and done, would bury everything else.
    for noisy in ("celery.beat", "celery.app.trace", "celery.worker.strategy"):
        logging.getLogger(noisy).setLevel("WARNING")


@signals.worker_before_create_process.connect
def _share_memory(**_: Any) -> None:
    """What the parent imported stays one copy for all: the collector writes to what it visits, which unshares it."""
    gc.collect()
    gc.freeze()


@signals.worker_process_init.connect
def _open(**_: Any) -> None:
    open_process()


@signals.worker_process_shutdown.connect
def _close(**_: Any) -> None:
    close_process()


@signals.worker_ready.connect
def _serve_worker_metrics(**_: Any) -> None:
    settings = ExecutorSettings()
    count_from_zero()
    serve_metrics(settings.celery_worker_host, settings.celery_worker_port)


@signals.beat_init.connect
def _serve_beat_metrics(**_: Any) -> None:
    settings = BeatSettings()
    measure_beat()
    serve_metrics(settings.celery_beat_host, settings.celery_beat_port)


@signals.worker_init.connect
def _refuse_bad_settings(**_: Any) -> None:
    """Celery outlives exceptions here; SystemExit it obeys. Neither message repeats a value."""
    try:
        SignerSet.from_settings(ExecutorSettings())
    except ValidationError as error:
        raise SystemExit(f"settings: {'; '.join(e['msg'] for e in error.errors(include_input=False))}") from None
    except TradingFlowError as error:
        raise SystemExit(f"settings: {error.detail}") from None
