"""What PostgreSQL keeps of proxies: who is one, and which implementation each had from where on."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tradingflow.db.models.chain import ContractImplementation, MonitoredContract
from tradingflow.monitor.proxies import Implementation

COLUMNS = (
    ContractImplementation.address,
    ContractImplementation.block_number,
    ContractImplementation.log_index,
    ContractImplementation.implementation,
)


class ProxyStore:
    """The proxies of one chain."""

    def __init__(self, engine: AsyncEngine, chain_id: int) -> None:
        self._engine = engine
        self._chain_id = chain_id

    async def load(self) -> list[Implementation]:
        query = select(*COLUMNS).where(ContractImplementation.chain_id == self._chain_id)
        async with self._engine.connect() as connection:
            return [Implementation(*row) for row in await connection.execute(query)]

    async def unexamined(self, most: int) -> list[tuple[str, int, int]]:
        """(address, from_block, live_from) of contracts taken up of which nobody knows whether they are proxies.

        Not of those a factory announced: its rule says what they are, and there may be 100,000 of them.
        """
        query = (
            select(MonitoredContract.address, MonitoredContract.from_block, MonitoredContract.live_from)
            .where(
                MonitoredContract.chain_id == self._chain_id,
                MonitoredContract.is_proxy.is_(None),
                MonitoredContract.discovered_by.is_(None),
                MonitoredContract.live_from.is_not(None),
            )
            .order_by(MonitoredContract.from_block, MonitoredContract.address)
            .limit(most)
        )
        async with self._engine.connect() as connection:
            rows = await connection.execute(query)
            return [(address, first, live) for address, first, live in rows if live is not None]

    async def examined(self, addresses: Sequence[str], found: Sequence[Implementation]) -> None:
        """Keep what was found of these; who has no implementation is no proxy."""
        proxies = [implementation.proxy for implementation in found]
        async with self._engine.begin() as connection:
            await insert_implementations(connection, self._chain_id, found)
            await connection.execute(
                update(MonitoredContract)
                .where(MonitoredContract.chain_id == self._chain_id, MonitoredContract.address.in_(addresses))
                .values(is_proxy=MonitoredContract.address.in_(proxies))
            )


async def insert_implementations(
    connection: AsyncConnection, chain_id: int, implementations: Sequence[Implementation]
) -> None:
    if not implementations:
        return
    rows = [
        {
            "chain_id": chain_id,
            "address": step.proxy,
            "block_number": step.block_number,
            "log_index": step.log_index,
            "implementation": step.implementation,
        }
        for step in implementations
    ]
    await connection.execute(upsert(ContractImplementation).on_conflict_do_nothing(), rows)


async def rollback_implementations(connection: AsyncConnection, chain_id: int, ancestor: int) -> None:
    """Forget what was read of blocks above `ancestor`."""
    await connection.execute(
        delete(ContractImplementation).where(
            ContractImplementation.chain_id == chain_id, ContractImplementation.block_number > ancestor
        )
    )


async def forget_implementations(connection: AsyncConnection, chain_id: int, address: str) -> None:
    """Of a proxy that is followed no more."""
    steps = (ContractImplementation.chain_id == chain_id, ContractImplementation.address == address)
    await connection.execute(delete(ContractImplementation).where(*steps))


async def forget_examination(connection: AsyncConnection, chain_id: int, ancestor: int) -> None:
    """Have contracts looked at again whose state was read at a block that is gone."""
    await connection.execute(
        update(MonitoredContract)
        .where(
            MonitoredContract.chain_id == chain_id,
            MonitoredContract.discovered_by.is_(None),
            MonitoredContract.live_from > ancestor + 1,
        )
        .values(is_proxy=None)
    )
