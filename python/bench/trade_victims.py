"""Executor processes that die as by kill -9, forked from a warm parent so that a crash costs milliseconds."""

import asyncio
import logging
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess

import structlog
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from tradingflow.account_manager.relayer.healing import NonceHealer
from tradingflow.account_manager.relayer.relayer import Relayer
from tradingflow.account_manager.relayer.signers import SignerSet
from tradingflow.account_manager.relayer.steps import Reached, Step, unheard
from tradingflow.account_manager.trade import repository
from tradingflow.account_manager.trade.executor import TradeExecutor
from tradingflow.chain.client import ChainClient
from tradingflow.core.clock import SystemClock
from tradingflow.core.config import ChainSettings, ExecutorSettings
from tradingflow.core.errors import TradingFlowError
from tradingflow.db.engine import make_engine, make_session_factory

ADVANCES_AT_ONCE = 4
IDLE_S = 0.3
HEAL_EVERY_S = 2.0


@dataclass(frozen=True)
class VictimSettings:
    """What a victim needs to know, as text that travels to another process."""

    database_url: str
    chain_json: str
    operator_key: str
    replace_after_s: float

    def build(self) -> ExecutorSettings:
        return ExecutorSettings(
            database_url=SecretStr(self.database_url),
            chains=(ChainSettings.model_validate_json(self.chain_json),),
            operator_private_key=SecretStr(self.operator_key),
            replace_after_s=self.replace_after_s,
        )


def quiet_logs() -> None:
    """Standard output is for figures; of what the executor says, only what should not be goes to standard error."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def nursery() -> ForkServerContext:
    """Where victims come from: a process that has imported everything and opened nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.trade_victims"])
    return context


def spawn_dying(context: ForkServerContext, settings: VictimSettings, trade_id: str, step: Step) -> ForkServerProcess:
    """Advances one trade and is killed when it reaches `step`."""
    process = context.Process(target=_die_at, args=(settings, trade_id, step))
    process.start()
    return process


def spawn_executor(context: ForkServerContext, settings: VictimSettings, seed: int) -> ForkServerProcess:
    """Advances whatever is not final, and heals nonces, until it is killed."""
    process = context.Process(target=_work, args=(settings, seed), daemon=True)
    process.start()
    return process


def _die_at(settings: VictimSettings, trade_id: str, step: Step) -> None:
    quiet_logs()

    def reached(now: Step) -> None:
        if now is step:
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(_advance(settings, trade_id, reached))


async def _advance(settings: VictimSettings, trade_id: str, reached: Reached) -> None:
    async with relayer_of(settings, reached) as relayer:
        await TradeExecutor(relayer).advance(trade_id)


def _work(settings: VictimSettings, seed: int) -> None:
    quiet_logs()
    asyncio.run(_work_for_ever(settings, random.Random(seed)))  # noqa: S311 - repeatable, not secret


async def _work_for_ever(settings: VictimSettings, dice: random.Random) -> None:
    async with relayer_of(settings) as relayer, asyncio.TaskGroup() as group:
        group.create_task(_heal_for_ever(relayer))
        for _ in range(ADVANCES_AT_ONCE):
            group.create_task(_advance_for_ever(relayer, dice))


async def _advance_for_ever(relayer: Relayer, dice: random.Random) -> None:
    executor = TradeExecutor(relayer)
    while True:
        try:
            waiting = await _actionable(relayer)
            following: str | None = dice.choice(waiting) if waiting else None
            while following is not None:
                await executor.advance(following)
                following = await executor.next_after(following)
        except (TradingFlowError, SQLAlchemyError):
            pass  # what fails is tried again, as the sweep does
        await asyncio.sleep(IDLE_S)


async def _actionable(relayer: Relayer) -> list[str]:
    """Trades in flight, and of each other vault the one whose turn it is."""
    async with relayer.sessions() as session:
        trades = [t for t in await repository.unsettled(session, 2000) if t.settled_at is None]
    first: dict[str, str] = {}
    for trade in sorted(trades, key=lambda t: t.status != "submitted"):
        first.setdefault(trade.vault_address, trade.id)
    return list(first.values())


async def _heal_for_ever(relayer: Relayer) -> None:
    healer = NonceHealer(relayer)
    while True:
        for chain_id in relayer.chains:
            for signer in relayer.signers.addresses:
                try:
                    await healer.heal(chain_id, signer)
                except (TradingFlowError, SQLAlchemyError):
                    continue
        await asyncio.sleep(HEAL_EVERY_S)


@asynccontextmanager
async def relayer_of(settings: VictimSettings, reached: Reached = unheard) -> AsyncIterator[Relayer]:
    """A relayer with connections of its own."""
    built = settings.build()
    engine = make_engine(built, application="victim")
    chains = {chain.chain_id: ChainClient(chain) for chain in built.chains}
    try:
        signers = SignerSet.from_settings(built)
        yield Relayer(make_session_factory(engine), chains, signers, SystemClock(), built, reached)
    finally:
        for client in chains.values():
            await client.close()
        await engine.dispose()
