"""The executor's part of a live trade, played in the test's own process: plan, sign, send, settle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from devstack.executor_world import operator_signer
from tests.integration.simulation.world import World
from tradingflow.account_manager.relayer.relayer import Relayer
from tradingflow.account_manager.relayer.signers import SignerSet
from tradingflow.account_manager.trade.executor import TradeExecutor
from tradingflow.core.clock import SystemClock
from tradingflow.core.config import ExecutorSettings
from tradingflow.db.models import Signer, Trade


@asynccontextmanager
async def executing(world: World, settings: ExecutorSettings) -> AsyncIterator[None]:
    """While inside, every trade a flow asks for is executed on the chain."""
    chains = {world.chain.chain_id: world.chain}
    executor = TradeExecutor(Relayer(world.sessions, chains, SignerSet([operator_signer()]), SystemClock(), settings))
    async with world.sessions.begin() as session:
        # As an executor does when it starts: whose keys trade here is what a flow's preflight asks.
        row = {"chain_id": world.chain.chain_id, "address": operator_signer().address}
        await session.execute(insert(Signer).values(row).on_conflict_do_nothing())
    task = asyncio.create_task(_execute_all(world, executor))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _execute_all(world: World, executor: TradeExecutor) -> None:
    settlements = world.app.state.parts.around.trading.settlements
    while True:
        async with world.sessions() as session:
            query = select(Trade.id).where(Trade.settled_at.is_(None))
            waiting = list(await session.scalars(query))
        for identity in waiting:
            await executor.advance(identity)
            settlements.announce(identity)
        await asyncio.sleep(0.02)


def executor_settings(world: World) -> ExecutorSettings:
    worker = world.app.state.parts.settings
    return ExecutorSettings(database_url=worker.database_url, chains=worker.chains)
