"""`python -m tradingflow.monitor.server`: follows every chain of CHAINS; health and metrics on MONITOR_PORT."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.chain.registry import AbiRegistry
from tradingflow.chain.rpc import RpcNode
from tradingflow.chain.rpc_heads import NewHeads
from tradingflow.chain.rpc_pool import RpcPool
from tradingflow.core.config import ChainSettings, MonitorSettings
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import configure_logging
from tradingflow.core.tasks import running
from tradingflow.db.engine import make_engine
from tradingflow.db.outbox import OutboxRelay
from tradingflow.messaging.broker import Broker
from tradingflow.monitor import metrics
from tradingflow.monitor.contracts import Contract
from tradingflow.monitor.follower import Follower
from tradingflow.monitor.notify import LANE, RELAY_BATCH, EventPublisher
from tradingflow.monitor.proxy_store import ProxyStore
from tradingflow.monitor.reader import ChainReader
from tradingflow.monitor.store import ChainStore
from tradingflow.tracing.provider import make_provider
from tradingflow.web.app import Check, make_app
from tradingflow.web.serve import serve

# A chain whose follower did not reach the head for this long is not ready: it backfills, or its nodes are away.
STALE_S = 60.0
# A range of events is about this many objects.
COLLECT_AFTER_OBJECTS = 50_000


def configured_contracts(chain: ChainSettings) -> list[Contract]:
    """What a chain's settings name: the vault factory and the pools."""
    contracts = [Contract(pool, "uniswap_v3_pool", chain.start_block) for pool in chain.pools]
    if chain.vault_factory is not None:
        contracts.append(Contract(chain.vault_factory, "vault_factory", chain.start_block))
    return contracts


@dataclass(frozen=True)
class ChainParts:
    """What belongs to one chain; prepared, not yet running."""

    follower: Follower
    reader: ChainReader
    store: ChainStore


@asynccontextmanager
async def open_chain(chain: ChainSettings, engine: AsyncEngine, registry: AbiRegistry) -> AsyncIterator[ChainParts]:
    """The parts of a chain, its cursor and configured contracts in place."""

    def count_failure(node: str, code: str) -> None:
        metrics.RPC_ERRORS.labels(str(chain.chain_id), node, code).inc()

    pool = RpcPool(chain.chain_id, [RpcNode(url) for url in chain.rpc_urls], count_failure)
    store = ChainStore(engine, chain.chain_id, chain.finality_blocks)
    await store.prepare(chain.start_block, configured_contracts(chain))
    reader = ChainReader(pool)
    heads = NewHeads(chain.ws_url, chain.chain_id) if chain.ws_url else None
    try:
        async with running(*([heads.run()] if heads else [])):
            yield ChainParts(
                Follower(chain, reader, store, ProxyStore(engine, chain.chain_id), registry, heads), reader, store
            )
    finally:
        await pool.close()


@asynccontextmanager
async def follow_chain(chain: ChainSettings, engine: AsyncEngine, registry: AbiRegistry) -> AsyncIterator[Follower]:
    """Only the follower of a chain."""
    async with open_chain(chain, engine, registry) as parts:
        yield parts.follower


class Monitor:
    """The running parts of the process."""

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self.readiness: dict[str, Check] = {}

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        settings = self._settings
        engine = make_engine(settings, application="monitor")
        broker = Broker(settings.rabbitmq_dsn, name="monitor", partitions=settings.cycle_partitions)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(engine.dispose)
            await stack.enter_async_context(broker)
            registry = AbiRegistry()
            followers = [
                await stack.enter_async_context(follow_chain(chain, engine, registry)) for chain in settings.chains
            ]
            self._declare_readiness(engine, broker, followers)
            relay = OutboxRelay(engine, LANE, EventPublisher(engine, broker).publish, RELAY_BATCH)
            await stack.enter_async_context(running(relay.run(), *(follower.run() for follower in followers)))
            yield

    def _declare_readiness(self, engine: AsyncEngine, broker: Broker, followers: list[Follower]) -> None:
        async def database() -> None:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))

        async def rabbitmq() -> None:
            if not broker.is_connected:
                raise DependencyUnavailable("rabbitmq_unavailable", "RabbitMQ is not connected")

        self.readiness |= {"postgresql": database, "rabbitmq": rabbitmq}
        for follower in followers:
            self.readiness[f"chain_{follower.chain_id}"] = _at_head(follower)


def _at_head(follower: Follower) -> Check:
    async def check() -> None:
        if time.monotonic() - follower.last_at_head_s > STALE_S:
            raise DependencyUnavailable("not_at_head", f"chain {follower.chain_id} is not at its head")

    return check


def collect_garbage_rarely() -> None:
    """A backfill makes tens of thousands of rows and no cycle: looking for cycles among them is CPU for nothing."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS, 20, 100)


def make_monitor_app(settings: MonitorSettings) -> FastAPI:
    monitor = Monitor(settings)
    return make_app(
        title="TradingFlow Monitor",
        description="Follows chains and stores contract events. Health and metrics only.",
        lifespan=monitor.lifespan,
        readiness=monitor.readiness,
        tracer_provider=make_provider(settings, "monitor"),
        https_only=settings.public_https,
    )


def main() -> None:
    settings = MonitorSettings()
    configure_logging("monitor", settings.log_level, json=settings.log_format == "json", directory=settings.log_dir)
    collect_garbage_rarely()
    serve(make_monitor_app(settings), settings.monitor_host, settings.monitor_port)


if __name__ == "__main__":
    main()
