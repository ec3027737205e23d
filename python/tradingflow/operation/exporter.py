"""The platform's vitals as Prometheus metrics, read when they are asked for: once for all replicas."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.core.config import PlatformSettings
from tradingflow.db.engine import make_engine
from tradingflow.messaging.queues import QueueDepth, queue_depths, queue_names
from tradingflow.operation.vitals import Backlog, Vitals, read_vitals

Sample = tuple[str, str, dict[str, str], float]


def create_app(settings: PlatformSettings, disk: Path) -> FastAPI:
    """`/metrics` and `/health`; a scrape fails with 500 while PostgreSQL or RabbitMQ is away, which is an alert too.

    `disk` is a folder on the disk to watch.
    """
    engine = make_engine(settings, application="tradingflow-exporter", pool_size=1)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await engine.dispose()

    app = FastAPI(title="TradingFlow exporter", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(await render(settings, engine, disk), media_type=CONTENT_TYPE_LATEST)

    return app


async def render(settings: PlatformSettings, engine: AsyncEngine, disk: Path) -> bytes:
    """One reading in Prometheus text format."""
    async with engine.connect() as connection:
        vitals = await read_vitals(connection)
    depths = await queue_depths(settings.rabbitmq_dsn, queue_names(settings.cycle_partitions))
    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for name, help_text, labels, value in (*vital_samples(vitals), *queue_samples(depths), *disk_samples(disk)):
        if name not in gauges:
            gauges[name] = Gauge(name, help_text, list(labels), registry=registry)
        (gauges[name].labels(**labels) if labels else gauges[name]).set(value)
    return generate_latest(registry)


def vital_samples(vitals: Vitals) -> Iterator[Sample]:
    """(name, help, labels, value) of what the tables say."""
    yield "tradingflow_postgres_connections", "Client connections in use", {}, vitals.connections
    yield "tradingflow_postgres_max_connections", "Client connections allowed", {}, vitals.max_connections
    yield "tradingflow_postgres_read_only", "1 while writes are refused", {}, vitals.is_read_only
    yield "tradingflow_dead_letters", "Messages on cycles that could not be handled", {}, vitals.dead_letters
    yield from _backlog("trades_open", "trades not yet settled", {}, vitals.unsettled_trades)
    yield from _backlog("schedules_late", "schedules due and not fired", {}, vitals.late_schedules)
    yield from _backlog("cycles_open", "cycles that run", {}, vitals.open_cycles)
    for lane, backlog in vitals.outbox.items():
        yield from _backlog("outbox", "messages committed and not yet published", {"lane": lane}, backlog)
    for chain in vitals.chains:
        labels = {"chain_id": str(chain.chain_id)}
        yield "tradingflow_chain_halted", "1 while an operator must look", labels, chain.halted_reason is not None
        yield "tradingflow_chain_idle_seconds", "Time since the Monitor moved on this chain", labels, chain.idle_s


def _backlog(name: str, what: str, labels: dict[str, str], backlog: Backlog) -> Iterator[Sample]:
    yield f"tradingflow_{name}", f"Number of {what}", labels, backlog.count
    yield f"tradingflow_{name}_oldest_seconds", f"Age of the oldest of the {what}", labels, backlog.oldest_s


def disk_samples(folder: Path) -> Iterator[Sample]:
    """(name, help, labels, value) of the disk a folder is on."""
    yield "tradingflow_disk_free_bytes", "Free space on the disk of the log folder", {}, shutil.disk_usage(folder).free


def queue_samples(depths: dict[str, QueueDepth | None]) -> Iterator[Sample]:
    """(name, help, labels, value) of the queues that exist."""
    for depth in depths.values():
        if depth is not None:
            labels = {"queue": depth.name}
            yield "tradingflow_queue_waiting", "Messages ready for delivery", labels, depth.waiting
            yield "tradingflow_queue_consumers", "Consumers of the queue", labels, depth.consumers
