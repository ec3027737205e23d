"""What one Celery process holds: an event loop in a thread of its own, one engine, the chains, the signers.

Celery's tasks are plain functions, whatever pool runs them. Each hands its coroutine to the one loop and waits, so that
connections live as long as the process and belong to one loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from tradingflow.account_manager.job import repository as job_runs
from tradingflow.account_manager.performance.pricing import BlockPricing
from tradingflow.account_manager.portfolio.rounds import ValuationRounds
from tradingflow.account_manager.portfolio.valuation import VaultValuer
from tradingflow.account_manager.price.refresh import PriceRefresh
from tradingflow.account_manager.price.sources import markets_of
from tradingflow.account_manager.relayer import repository
from tradingflow.account_manager.relayer.healing import NonceHealer
from tradingflow.account_manager.relayer.relayer import Relayer
from tradingflow.account_manager.relayer.signers import SignerSet
from tradingflow.account_manager.schedule import SLOW, soonest_again
from tradingflow.account_manager.token.registry import TokenRegistry
from tradingflow.account_manager.trade.executor import TradeExecutor
from tradingflow.account_manager.vault.deployment import VaultDeployer
from tradingflow.chain.client import ChainClient
from tradingflow.core.config import ExecutorSettings
from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import get_logger
from tradingflow.core.tasks import end_all
from tradingflow.db.clock import DatabaseClock, ensure_known
from tradingflow.db.engine import make_engine, make_session_factory
from tradingflow.outbound.client import GuardedHttp
from tradingflow.prices.book import PriceBook
from tradingflow.tracing.provider import make_provider
from tradingflow.tracing.traces import Traces

log = get_logger(__name__)

# One stays with the sweep's lock; the eight trades it advances at once wait for the chain most of the time, and hold
# none while they do.
POOL_SIZE = 6

STOP_TIMEOUT_S = 10.0

# The lock that whoever does a slow job holds beside the job's own.
SLOW_LANE = "jobs:slow"

R = TypeVar("R")


class ExecutorProcess:
    """The parts of one process, wired once."""

    def __init__(self, settings: ExecutorSettings) -> None:
        self.settings = settings
        self.engine = make_engine(settings, application="celery", pool_size=POOL_SIZE, max_overflow=0)
        self.sessions = make_session_factory(self.engine)
        self.clock = DatabaseClock(self.engine)
        self.chains = {chain.chain_id: ChainClient(chain) for chain in settings.chains}
        self._traces = Traces(make_provider(settings, "executor"))
        signers = SignerSet.from_settings(settings)
        self.relayer = Relayer(self.sessions, self.chains, signers, self.clock, settings, traces=self._traces)
        self.trades = TradeExecutor(self.relayer)
        self.deployments = VaultDeployer(self.relayer)
        self.healer = NonceHealer(self.relayer)
        self.http = GuardedHttp(allowed=settings.outbound_allowed)
        self.prices = PriceBook(self.chains, self.sessions, self.clock)
        self.tokens = TokenRegistry(self.chains, self.prices)
        self.valuer = VaultValuer(self.chains, self.prices, self.tokens, self.sessions)
        self.valuation_rounds = ValuationRounds(self.valuer, self.sessions, self.clock)
        self.block_pricing = BlockPricing(self.chains, self.prices, self.tokens, self.sessions)
        self.price_refresh = PriceRefresh(
            self.prices, markets_of(settings, self.http, self.clock), self.sessions, self.clock
        )
        self._registered = False
        self._loop = asyncio.new_event_loop()
        self._keeping_time = self._loop.create_task(self.clock.keep())
        self._thread = threading.Thread(target=self._loop.run_forever, name="executor", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine on the process's loop and wait; when the wait is broken off, so is the coroutine."""
        future = asyncio.run_coroutine_threadsafe(self._in_time(work), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _in_time(self, work: Coroutine[Any, Any, R]) -> R:
        """Nothing is called off or deleted by age on this machine's word: without the database's, nothing is done."""
        try:
            await ensure_known(self.clock)
        except BaseException:
            work.close()
            raise
        return await work

    async def register_signers(self) -> None:
        """Tell the other services which operators this executor signs for, and that it does for no other."""
        if not self._registered:
            async with self.sessions() as session, session.begin():
                await repository.hold_signers(session, self.chains.keys(), self.relayer.signers.addresses)
            self._registered = True

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[bool]:
        """Whether it is this process's turn to do the job `name`: nobody else does it, and it is not too soon again.

        Of the slow jobs one runs at a time, whichever it is, and the one that began the longest ago comes first. The
        right ends with the block, or with the process. What becomes of the run is noted for `/tasks`.
        """
        async with self.engine.connect() as connection, AsyncExitStack() as turn:
            # The lock is the connection's, not a transaction's: the job may take longer than those may idle.
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            if not await self._take_turn(connection, name, turn):
                yield False
                return
            started_at = await job_runs.begin(connection, name, soonest_again(name))
            if started_at is None:
                yield False
                return
            async with self._noted(connection, name, started_at):
                yield True

    async def _take_turn(self, connection: AsyncConnection, name: str, turn: AsyncExitStack) -> bool:
        """Take the job's locks, which end with `turn`; whether it is ours."""
        for lock in (name, SLOW_LANE) if name in SLOW else (name,):
            if not await job_runs.take_turn(connection, lock):
                return False
            turn.push_async_callback(job_runs.give_turn, connection, lock)
        return name not in SLOW or not await job_runs.is_another_first(connection, name, SLOW)

    @asynccontextmanager
    async def _noted(self, connection: AsyncConnection, name: str, started_at: datetime) -> AsyncIterator[None]:
        failure: str | None = "broken off"
        try:
            yield
            failure = None
        except TradingFlowError as error:
            failure = str(error)
            raise
        except Exception as error:
            failure = type(error).__name__  # its text may hold what a user sent
            raise
        finally:
            await job_runs.end(connection, name, started_at, failure)

    def close(self) -> None:
        """Give back connections, send the last traces, and end the loop."""
        self._traces.close()
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(STOP_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_TIMEOUT_S)
        self._loop.close()

    async def _close(self) -> None:
        await end_all([self._keeping_time])
        for client in self.chains.values():
            await client.close()
        await self.http.close()
        await self.engine.dispose()


_lock = threading.Lock()
_process: tuple[int, ExecutorProcess] | None = None


def this_process() -> ExecutorProcess:
    """This process's parts, made when first asked for. A forked child makes its own."""
    global _process  # noqa: PLW0603  one a process is the point
    with _lock:
        if _process is None or _process[0] != os.getpid():
            _process = (os.getpid(), ExecutorProcess(ExecutorSettings()))
        return _process[1]


def open_process() -> None:
    """Make the parts before the first task, and register the signers if the database is there."""
    process = this_process()
    try:
        process.run(process.register_signers())
    except (SQLAlchemyError, OSError) as error:
        log.warning("signers not registered yet", error=error)


def close_process() -> None:
    global _process  # noqa: PLW0603
    with _lock:
        if _process is not None and _process[0] == os.getpid():
            _process[1].close()
        _process = None
