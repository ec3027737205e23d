"""The Account Manager's web process: `python -m tradingflow.account_manager.server`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.account_manager.auth.authenticator import LocalAuthenticator
from tradingflow.account_manager.auth.endpoints import router as auth_router
from tradingflow.account_manager.contract.endpoints import router as contract_router
from tradingflow.account_manager.event.endpoints import router as event_router
from tradingflow.account_manager.job.endpoints import router as job_router
from tradingflow.account_manager.job_queue import JobQueue
from tradingflow.account_manager.notification.channel_endpoints import router as channel_router
from tradingflow.account_manager.notification.webhook_endpoints import router as webhook_router
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.performance.service import VaultReporter
from tradingflow.account_manager.portfolio.endpoints import hot_router as hot_portfolio_router
from tradingflow.account_manager.portfolio.endpoints import router as portfolio_router
from tradingflow.account_manager.portfolio.valuation import VaultValuer
from tradingflow.account_manager.price.endpoints import router as price_router
from tradingflow.account_manager.rate_limits import RateLimits
from tradingflow.account_manager.token.endpoints import router as token_router
from tradingflow.account_manager.token.registry import TokenRegistry
from tradingflow.account_manager.trade.endpoints import hot_router as hot_trade_router
from tradingflow.account_manager.trade.endpoints import router as trade_router
from tradingflow.account_manager.user.endpoints import hot_router as hot_user_router
from tradingflow.account_manager.user.endpoints import router as user_router
from tradingflow.account_manager.vault.endpoints import router as vault_router
from tradingflow.chain.client import ChainClient
from tradingflow.core.access_token import TokenSigner, TokenVerifier
from tradingflow.core.clock import Clock
from tradingflow.core.config import AccountManagerSettings
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import configure_logging
from tradingflow.core.sealing import Sealer
from tradingflow.core.tasks import running
from tradingflow.db.clock import database_clock
from tradingflow.db.engine import make_engine, make_session_factory
from tradingflow.db.outbox import OutboxRelay, OutgoingMessage, Publish
from tradingflow.db.reads import open_read_pool
from tradingflow.db.revocation import RevokedSessions
from tradingflow.messaging.broker import Broker
from tradingflow.prices.book import PriceBook
from tradingflow.tracing.provider import make_provider
from tradingflow.web.app import Check, make_app, routes_of
from tradingflow.web.serve import serve

LANE = "account_manager"
# Routes are looked through in this order: first what is asked for most.
ROUTES = routes_of(
    (
        hot_user_router,
        hot_portfolio_router,
        hot_trade_router,
        auth_router,
        user_router,
        token_router,
        price_router,
        vault_router,
        portfolio_router,
        trade_router,
        contract_router,
        event_router,
        job_router,
        webhook_router,
        channel_router,
    )
)


def create_app(settings: AccountManagerSettings, clock: Clock | None = None) -> FastAPI:
    """The app with all its routes; its parts are connected while its lifespan runs."""
    readiness: dict[str, Check] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            engine = make_engine(settings, application="account_manager")
            stack.push_async_callback(engine.dispose)
            time = await stack.enter_async_context(database_clock(engine)) if clock is None else clock
            await _wire(app, settings, engine, time, stack, readiness)
            yield

    app = make_app(
        title="TradingFlow Account Manager",
        description="Accounts, sign-in, vaults, tokens, prices, portfolio and trade history.",
        lifespan=lifespan,
        readiness=readiness,
        routes=ROUTES,
        tracer_provider=make_provider(settings, "account_manager"),
        https_only=settings.public_https,
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            max_age=600,
        )
    return app


async def _wire(
    app: FastAPI,
    settings: AccountManagerSettings,
    engine: AsyncEngine,
    clock: Clock,
    stack: AsyncExitStack,
    readiness: dict[str, Check],
) -> None:
    redis = Redis.from_url(settings.redis_dsn)
    stack.push_async_callback(redis.aclose)
    broker = await stack.enter_async_context(
        Broker(settings.rabbitmq_dsn, name="account_manager", partitions=settings.cycle_partitions)
    )
    jobs = JobQueue(settings.rabbitmq_dsn)
    stack.callback(jobs.close)
    chains = {chain.chain_id: ChainClient(chain) for chain in settings.chains}
    for client in chains.values():
        stack.push_async_callback(client.close)
    signer = TokenSigner(settings.jwt_seed.get_secret_value(), settings.jwt_issuer, settings.access_token_ttl_s, clock)
    sessions = make_session_factory(engine)
    reads = make_session_factory(engine.execution_options(isolation_level="AUTOCOMMIT"))
    revoked = RevokedSessions(engine, clock)
    verifier = TokenVerifier(signer.jwks(), settings.jwt_issuer, clock)
    limits = RateLimits(settings, redis)
    prices = PriceBook(chains, reads, clock)
    tokens = TokenRegistry(chains, prices)
    app.state.authenticator = LocalAuthenticator(verifier, revoked, reads, clock, limits)
    app.state.parts = Parts(
        settings=settings,
        clock=clock,
        sessions=sessions,
        reads=reads,
        hot=await stack.enter_async_context(open_read_pool(settings, application="account_manager_reads")),
        redis=redis,
        chains=chains,
        prices=prices,
        tokens=tokens,
        valuer=VaultValuer(chains, prices, tokens, sessions),
        reporter=VaultReporter(settings, clock, reads),
        signer=signer,
        jobs=jobs,
        revoked=revoked,
        sealer=Sealer(settings.credentials_key.get_secret_value()),
        limits=limits,
    )
    readiness.update(_checks(engine, redis, broker, chains))
    relay = OutboxRelay(engine, LANE, _publisher(broker))
    await stack.enter_async_context(running(relay.run(), revoked.watch()))


def _checks(engine: AsyncEngine, redis: Redis, broker: Broker, chains: dict[int, ChainClient]) -> dict[str, Check]:
    async def postgres() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1 FROM alembic_version"))

    async def redis_answers() -> None:
        await redis.ping()

    async def rabbitmq() -> None:
        if not broker.is_connected:
            raise DependencyUnavailable("rabbitmq_unavailable", "the connection to RabbitMQ is down")

    return {
        "postgres": postgres,
        "redis": redis_answers,
        "rabbitmq": rabbitmq,
        **{f"chain_{chain_id}": client.verify_chain_id for chain_id, client in chains.items()},
    }


def _publisher(broker: Broker) -> Publish:
    async def publish(messages: Sequence[OutgoingMessage]) -> None:
        await broker.publish_all([(m.exchange, m.routing_key, m.message_id, m.body) for m in messages])

    return publish


def main() -> None:
    settings = AccountManagerSettings()
    configure_logging(
        "account_manager", settings.log_level, json=settings.log_format == "json", directory=settings.log_dir
    )
    serve(create_app(settings), settings.account_manager_host, settings.account_manager_port)


if __name__ == "__main__":
    main()
