"""The Python Worker: `python -m tradingflow.py_worker.server`. Serves the flow routes and runs cycles."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.chain.client import ChainClient
from tradingflow.core.clock import Clock
from tradingflow.core.config import WorkerSettings
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import configure_logging
from tradingflow.core.sealing import Sealer
from tradingflow.core.tasks import end_all
from tradingflow.db.clock import database_clock
from tradingflow.db.engine import make_engine, make_session_factory
from tradingflow.db.outbox import OutboxRelay, OutgoingMessage
from tradingflow.db.revocation import RevokedSessions
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.dead_letters import consume_dead_letters
from tradingflow.messaging.messages import pack, packable
from tradingflow.messaging.topology import CYCLES
from tradingflow.outbound.client import GuardedHttp
from tradingflow.prices.check import PriceCheck
from tradingflow.py_worker.approvals.desk import ApprovalDesk
from tradingflow.py_worker.approvals.endpoints import router as approvals_router
from tradingflow.py_worker.backtests.endpoints import router as backtests_router
from tradingflow.py_worker.backtests.runner import BacktestRunner
from tradingflow.py_worker.catalog import router as catalog_router
from tradingflow.py_worker.contract_triggers import ContractTriggers
from tradingflow.py_worker.control import ControlListener
from tradingflow.py_worker.cycle_starter import OUTBOX_LANE
from tradingflow.py_worker.datasets.endpoints import router as datasets_router
from tradingflow.py_worker.datasets.store import DatasetStore
from tradingflow.py_worker.dead_letters import DeadLetterKeeper
from tradingflow.py_worker.flows.control_endpoints import router as control_router
from tradingflow.py_worker.flows.cycle_endpoints import nodes_router, worker_router
from tradingflow.py_worker.flows.cycle_endpoints import router as cycles_router
from tradingflow.py_worker.flows.endpoints import router as flows_router
from tradingflow.py_worker.flows.node_execution import router as node_execution_router
from tradingflow.py_worker.flows.stream import router as stream_router
from tradingflow.py_worker.flows.trigger_endpoints import hooks_router
from tradingflow.py_worker.flows.trigger_endpoints import router as trigger_router
from tradingflow.py_worker.kit.registry import AnyNode, catalog, node_types
from tradingflow.py_worker.onchain_markets import OnChainMarkets
from tradingflow.py_worker.paper.endpoints import router as paper_router
from tradingflow.py_worker.paper.shadow import Shadow
from tradingflow.py_worker.paper.trading import PaperTrading
from tradingflow.py_worker.parts import Parts
from tradingflow.py_worker.preflight.endpoints import router as preflight_router
from tradingflow.py_worker.preflight.service import Preflight
from tradingflow.py_worker.replay.endpoints import router as replay_router
from tradingflow.py_worker.retention import HistoryLimits, Retention
from tradingflow.py_worker.runtime.context import Surroundings
from tradingflow.py_worker.runtime.settlements import Settlements
from tradingflow.py_worker.runtime.worker import Worker, end_process_when_broken
from tradingflow.py_worker.sandbox.runner import Sandbox, SandboxPlan
from tradingflow.py_worker.scheduler import Scheduler
from tradingflow.py_worker.secret_store import SecretStore
from tradingflow.py_worker.specs import node_specs
from tradingflow.py_worker.trade_gateway import LiveTrading
from tradingflow.tracing.provider import make_provider
from tradingflow.tracing.traces import Traces
from tradingflow.web.app import Check, make_app, routes_of
from tradingflow.web.auth import Authenticator
from tradingflow.web.jwks import JwksAuthenticator
from tradingflow.web.serve import serve

# One for the committer, loader, relay, control, sweep and revocations each, the rest for nodes' state, trades and
# routes.
POOL_SIZE = 16
ROUTES = routes_of(
    (
        flows_router,
        control_router,
        cycles_router,
        trigger_router,
        hooks_router,
        stream_router,
        catalog_router,
        node_execution_router,
        nodes_router,
        worker_router,
        preflight_router,
        paper_router,
        replay_router,
        backtests_router,
        datasets_router,
        approvals_router,
    )
)


def create_app(
    settings: WorkerSettings,
    *,
    clock: Clock | None = None,
    types: Mapping[str, AnyNode] | None = None,
    authenticator: Authenticator | None = None,
) -> FastAPI:
    """The app with all its routes; its parts are connected and cycles run while its lifespan lasts."""
    readiness: dict[str, Check] = {}
    tracer_provider = make_provider(settings, "py_worker")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            engine = make_engine(settings, application="py_worker", pool_size=POOL_SIZE)
            stack.push_async_callback(engine.dispose)
            time = await stack.enter_async_context(database_clock(engine)) if clock is None else clock
            wiring = _Wiring(settings, engine, time, stack, readiness, Traces(tracer_provider))
            app.state.authenticator = authenticator or await wiring.authenticator()
            app.state.parts = await wiring.parts(node_types() if types is None else types)
            yield

    return make_app(
        title="TradingFlow Python Worker",
        description="Runs flows: validates, schedules and executes graphs of nodes that exchange signals.",
        lifespan=lifespan,
        readiness=readiness,
        routes=ROUTES,
        tracer_provider=tracer_provider,
        https_only=settings.public_https,
    )


class _Wiring:
    def __init__(
        self,
        settings: WorkerSettings,
        engine: AsyncEngine,
        clock: Clock,
        stack: AsyncExitStack,
        readiness: dict[str, Check],
        traces: Traces,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._clock = clock
        self._stack = stack
        self._readiness = readiness
        self._traces = traces

    async def authenticator(self) -> Authenticator:
        client = await self._stack.enter_async_context(httpx.AsyncClient())
        revoked = RevokedSessions(self._engine, self._clock)
        await self._stack.enter_async_context(_background(revoked.watch()))
        settings = self._settings
        verifier = JwksAuthenticator(settings.jwks_url, settings.jwt_issuer, self._clock, client, revoked)
        self._readiness["account_manager_keys"] = verifier.check
        return verifier

    async def parts(self, types: Mapping[str, AnyNode]) -> Parts:
        settings, engine = self._settings, self._engine
        sessions = make_session_factory(engine)
        broker = await self._stack.enter_async_context(
            Broker(settings.rabbitmq_dsn, name="py_worker", partitions=settings.cycle_partitions)
        )
        redis = Redis.from_url(settings.redis_dsn)
        self._stack.push_async_callback(redis.aclose)
        settlements = Settlements()
        approvals = ApprovalDesk(sessions, self._clock)
        chains = {chain.chain_id: chain for chain in settings.chains}
        clients = self._chain_clients()
        markets = OnChainMarkets(clients)
        prices = PriceCheck(clients, sessions, self._clock) if settings.checks_prices else None
        around = Surroundings(
            clock=self._clock,
            markets=markets,
            trading=LiveTrading(sessions, chains, settlements),
            paper=PaperTrading(sessions, clients, self._clock, prices),
            http=await self._outbound(),
            secrets=SecretStore(sessions, Sealer(settings.credentials_key.get_secret_value())),
            code=await self._sandbox(),
            datasets=DatasetStore(sessions, self._clock),
            approvals=approvals,
        )
        specs = node_specs(types)
        worker = Worker(settings, engine, redis, broker, self._clock, types, specs, around, settlements, self._traces)
        scheduler = Scheduler(sessions, self._clock, settings.cycle_partitions)
        contract_triggers = ContractTriggers(sessions, broker, scheduler)
        await self._stack.enter_async_context(worker.running())
        await self._stack.enter_async_context(
            _background(
                scheduler.run(),
                approvals.run(),
                OutboxRelay(engine, OUTBOX_LANE, _packing_publish(broker)).run(),
                ControlListener(engine, worker.store, worker.conductor).run(),
                consume_dead_letters(broker, DeadLetterKeeper(sessions).keep),
                contract_triggers.run(),
                Retention(sessions, self._clock, _history_limits(settings)).run(),
                Shadow(sessions, clients, self._clock, types, specs, prices).run(),
                BacktestRunner(sessions, self._clock, _sandbox_plan(settings)).run(),
            )
        )
        self._readiness.update(_checks(engine, broker, worker))
        preflight = Preflight(types, clients, chains, markets)
        return Parts(
            settings,
            self._clock,
            sessions,
            clients,
            types,
            around,
            specs,
            catalog(),
            scheduler,
            worker,
            contract_triggers,
            preflight,
        )

    async def _outbound(self) -> GuardedHttp:
        http = GuardedHttp(allowed=self._settings.outbound_allowed)
        self._stack.push_async_callback(http.close)
        return http

    async def _sandbox(self) -> Sandbox:
        sandbox = Sandbox(_sandbox_plan(self._settings))
        await sandbox.start()
        self._stack.push_async_callback(sandbox.close)
        return sandbox

    def _chain_clients(self) -> dict[int, ChainClient]:
        clients = {chain.chain_id: ChainClient(chain) for chain in self._settings.chains}
        for client in clients.values():
            self._stack.push_async_callback(client.close)
        return clients


def _checks(engine: AsyncEngine, broker: Broker, worker: Worker) -> dict[str, Check]:
    async def postgres() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1 FROM alembic_version"))

    async def rabbitmq() -> None:
        if not (broker.is_connected and worker.consumer.is_subscribed):
            raise DependencyUnavailable("rabbitmq_unavailable", "the connection to RabbitMQ is down")

    return {"postgres": postgres, "rabbitmq": rabbitmq}


def _sandbox_plan(settings: WorkerSettings) -> SandboxPlan:
    return SandboxPlan(
        user_id=settings.sandbox_user_id,
        processes=settings.sandbox_processes,
        accept_missing=frozenset(settings.sandbox_accept_missing),
    )


def _history_limits(settings: WorkerSettings) -> HistoryLimits:
    days, cycles = settings.history_max_age_days, settings.history_max_cycles
    return HistoryLimits(timedelta(days=days) if days else None, cycles or None, settings.history_traded_cycles_too)


def _packing_publish(broker: Broker) -> Any:
    """The relay's publish: start messages of one partition travel together."""

    async def publish(messages: Sequence[OutgoingMessage]) -> None:
        grouped: defaultdict[str, list[OutgoingMessage]] = defaultdict(list)
        outgoing: list[tuple[str, str, str, bytes]] = []
        for message in messages:
            if message.exchange == CYCLES:
                grouped[message.routing_key].append(message)
            else:
                outgoing.append((message.exchange, message.routing_key, message.message_id, message.body))
        for routing_key, group in grouped.items():
            while part := group[: packable(m.body for m in group)]:
                del group[: len(part)]
                outgoing.append((CYCLES, routing_key, part[0].message_id, pack([m.body for m in part])))
        await broker.publish_all(outgoing)

    return publish


@asynccontextmanager
async def _background(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(part) for part in parts]
    for task in tasks:
        task.add_done_callback(end_process_when_broken)
    try:
        yield
    finally:
        await end_all(tasks)


def main() -> None:
    settings = WorkerSettings()
    configure_logging("py_worker", settings.log_level, json=settings.log_format == "json", directory=settings.log_dir)
    serve(create_app(settings), settings.py_worker_host, settings.py_worker_port)


if __name__ == "__main__":
    main()
