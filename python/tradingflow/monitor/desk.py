"""The parts an operator's command works with, opened for one chain and closed after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.chain.registry import AbiRegistry
from tradingflow.core.config import ChainSettings, MonitorSettings
from tradingflow.core.errors import NotFound
from tradingflow.db.engine import make_engine
from tradingflow.monitor.contracts import Contract
from tradingflow.monitor.follower import Follower
from tradingflow.monitor.operation import ChainStatus, Operation, statuses
from tradingflow.monitor.reader import ChainReader
from tradingflow.monitor.server import configured_contracts, open_chain
from tradingflow.monitor.store import ChainStore
from tradingflow.monitor.unfollow import unfollow, unwanted


@dataclass(frozen=True)
class Desk:
    follower: Follower
    reader: ChainReader
    store: ChainStore
    operation: Operation
    engine: AsyncEngine
    chain: ChainSettings

    async def backfill(self) -> None:
        """Follow to the head, showing blocks done, blocks a second and the time left."""
        start = (await self.store.cursor()).next_block
        head = (await self.reader.head()).number
        columns = (TextColumn("block {task.fields[block]}"), BarColumn(), MofNCompleteColumn(),
                   TextColumn("{task.speed:.0f} blocks/s"), TimeRemainingColumn())  # fmt: skip
        with Progress(*columns) as progress:
            task = progress.add_task("backfill", total=max(1, head - start + 1), block=start)
            self.follower.on_stored = lambda block: progress.update(task, completed=block - start + 1, block=block)
            while not await self.follower.round():
                pass

    async def unwanted(self) -> Sequence[Contract]:
        return await unwanted(self.engine, self.chain.chain_id, self._configured())

    async def unfollow(self, address: str, *, users_too: bool) -> int:
        """How many events are forgotten. Raises NotFound, Conflict."""
        chain_id, configured = self.chain.chain_id, self._configured()
        return await unfollow(self.engine, self.store, chain_id, address, configured, users_too=users_too)

    def _configured(self) -> set[str]:
        return {contract.address for contract in configured_contracts(self.chain)}


@asynccontextmanager
async def open_desk(settings: MonitorSettings, chain_id: int) -> AsyncIterator[Desk]:
    """Raises NotFound for a chain that CHAINS does not name."""
    chain = next((chain for chain in settings.chains if chain.chain_id == chain_id), None)
    if chain is None:
        raise NotFound("chain", chain_id)
    engine = make_engine(settings, application="monitor-desk", pool_size=2)
    registry = AbiRegistry()
    try:
        async with open_chain(chain, engine, registry) as parts:
            operation = Operation(engine, chain_id, parts.store, registry)
            yield Desk(parts.follower, parts.reader, parts.store, operation, engine, chain)
    finally:
        await engine.dispose()


async def read_statuses(settings: MonitorSettings) -> list[ChainStatus]:
    engine = make_engine(settings, application="monitor-desk", pool_size=1)
    try:
        return await statuses(engine)
    finally:
        await engine.dispose()
