"""What an operator does to a chain: look at it, compare it with the chain, decode again, read again, resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Row, RowMapping, case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tradingflow.chain.registry import AbiRegistry
from tradingflow.core.errors import InvalidInput, NotFound
from tradingflow.core.evm import address_from_bytes
from tradingflow.db.models.chain import ChainCursor, ContractEvent, MonitoredContract
from tradingflow.db.outbox import enqueue
from tradingflow.messaging.topology import CHAIN_EVENTS, CHAIN_EVENTS_FINAL
from tradingflow.monitor.assembler import Assembler
from tradingflow.monitor.backfill import RangeSizer, read_split
from tradingflow.monitor.contracts import Contract, ContractSet
from tradingflow.monitor.decoder import EventRow, decode_log
from tradingflow.monitor.discovery import Discovery
from tradingflow.monitor.notify import LANE, event_message
from tradingflow.monitor.proxies import Proxies
from tradingflow.monitor.proxy_store import ProxyStore
from tradingflow.monitor.reader import ChainReader
from tradingflow.monitor.store import CONTRACT_FIELDS, ChainStore

REDECODE_PAGE = 500
# The most blocks `verify` holds in memory at once.
VERIFY_BLOCKS = 500


@dataclass(frozen=True)
class ChainStatus:
    """How far one chain is. `gaps` counts contracts whose past is not read yet."""

    chain_id: int
    next_block: int
    next_final_block: int
    halted_reason: str | None
    updated_at: datetime
    contracts: int
    gaps: int
    undecoded: int


async def statuses(engine: AsyncEngine) -> list[ChainStatus]:
    """Every chain the Monitor ever followed."""
    mine = MonitoredContract.chain_id == ChainCursor.chain_id
    gap = MonitoredContract.live_from.is_(None) | (MonitoredContract.history_next < MonitoredContract.live_from)
    contracts = select(func.count()).select_from(MonitoredContract)
    undecoded = select(func.count()).select_from(ContractEvent)
    query = select(
        ChainCursor.chain_id,
        ChainCursor.next_block,
        ChainCursor.next_final_block,
        ChainCursor.halted_reason,
        ChainCursor.updated_at,
        contracts.where(mine).scalar_subquery(),
        contracts.where(mine, gap).scalar_subquery(),
        undecoded.where(ContractEvent.chain_id == ChainCursor.chain_id, ContractEvent.name.is_(None)).scalar_subquery(),
    ).order_by(ChainCursor.chain_id)
    async with engine.connect() as connection:
        return [ChainStatus(*row) for row in await connection.execute(query)]


@dataclass(frozen=True)
class Difference:
    """A log that is stored otherwise than the chain has it. `what` is missing, surplus, or the column that differs."""

    block_number: int
    log_index: int
    what: str


class Operation:
    """Commands on one chain. Each change is one transaction that waits for the follower's, and holds it up briefly."""

    def __init__(self, engine: AsyncEngine, chain_id: int, store: ChainStore, registry: AbiRegistry) -> None:
        self._engine = engine
        self._chain_id = chain_id
        self._store = store
        self._registry = registry

    async def verify(self, reader: ChainReader, first: int, last: int) -> list[Difference]:
        """Compare the stored events of blocks [first, last] with a fresh read of the chain."""
        if last >= (await self._store.cursor()).next_block:
            raise InvalidInput("not_stored", f"block {last} is not stored yet")
        contracts = await self._contracts()
        proxies, discovery = await self._proxies(), await self._store.discovery()
        differences: list[Difference] = []
        for start in range(first, last + 1, VERIFY_BLOCKS):
            end = min(start + VERIFY_BLOCKS - 1, last)
            addresses = [contract.address.lower() for contract in contracts]
            span = await read_split(reader, RangeSizer(), start, end, addresses)
            fresh = Assembler(self._chain_id, self._registry, discovery, ContractSet(contracts), proxies).past(span)
            stored = {(row["block_number"], row["log_index"]): dict(row) for row in await self._events(start, end)}
            chain = {(row.block_number, row.log_index): _as_stored(row) for row in fresh.events}
            differences += _differences(stored, chain)
        return differences

    async def verify_children(self, reader: ChainReader) -> dict[str, tuple[int, int]]:
        """For each vault factory: (vaults it says it made, those of them that are stored)."""
        block = (await self._store.cursor()).next_block - 1
        contracts = await self._contracts()
        counts = {}
        for factory in (contract for contract in contracts if contract.kind == "vault_factory"):
            made = await reader.vaults_of(factory.address, block)
            stored = {contract.address for contract in contracts if contract.discovered_by == factory.address}
            counts[factory.address] = (len(made), len(stored & made))
        return counts

    async def redecode(self, kind: str | None = None) -> tuple[int, int]:
        """Try the events that could not be decoded again, by today's ABIs; returns (tried, decoded).

        Those decoded are published again under their names, and the contracts they announce are followed.
        """
        await self._store.load_abis(self._registry)
        proxies, discovery = await self._proxies(), await self._store.discovery()
        tried = decoded = 0
        after = (-1, -1)
        while True:
            async with self._engine.begin() as connection:
                cursor = await self._locked_cursor(connection)
                rows = await self._undecoded(connection, kind, after)
                for row in rows:
                    decoded += await self._redecode(connection, row, proxies, discovery, cursor.next_final_block)
            tried += len(rows)
            if len(rows) < REDECODE_PAGE:
                return tried, decoded
            after = _position(rows[-1])

    async def _redecode(
        self, connection: AsyncConnection, row: Row[Any], proxies: Proxies, discovery: Discovery, next_final_block: int
    ) -> bool:
        implementation_kind = proxies.kind(row.address, *_position(row))
        name, args, _, reason = decode_log(self._registry, row.kind, row.topics, row.data, implementation_kind)
        key = (
            ContractEvent.chain_id == row.chain_id,
            ContractEvent.block_number == row.block_number,
            ContractEvent.log_index == row.log_index,
        )
        changed = update(ContractEvent).where(*key).values(name=name, args=args, undecoded_reason=reason)
        new = (await connection.execute(changed.returning(ContractEvent.__table__))).one_or_none()
        if name is None or new is None:  # a factory found a moment ago has the events of this contract read anew
            return False
        exchanges = (CHAIN_EVENTS, CHAIN_EVENTS_FINAL) if row.block_number < next_final_block else (CHAIN_EVENTS,)
        await enqueue(connection, LANE, [event_message(exchange, new) for exchange in exchanges])
        child = discovery.child(Contract(row.address, row.kind, 0), row.block_number, name, args)
        if child is not None:
            await self._store.add_contracts(connection, [child])
        return True

    async def reindex(self, address: str) -> int:
        """Forget the events of one contract and read them again from its first block; returns how many there were.

        One that the follower has not taken up yet is left for it to take up.
        """
        async with self._engine.begin() as connection:
            cursor = await self._locked_cursor(connection)
            ours = (MonitoredContract.chain_id == self._chain_id, MonitoredContract.address == address)
            again = update(MonitoredContract).where(*ours)
            again = again.values(
                history_next=MonitoredContract.from_block,
                live_from=case(
                    (
                        MonitoredContract.live_from.is_not(None),
                        func.greatest(MonitoredContract.from_block, cursor.next_block),
                    )
                ),
            )
            if (await connection.execute(again)).rowcount == 0:
                raise NotFound("monitored contract", address)
            gone = await connection.execute(
                delete(ContractEvent).where(ContractEvent.chain_id == self._chain_id, ContractEvent.address == address)
            )
            return int(gone.rowcount)

    async def _locked_cursor(self, connection: AsyncConnection) -> ChainCursor:
        query = select(ChainCursor.__table__).where(ChainCursor.chain_id == self._chain_id).with_for_update()
        row: Any = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound("chain", self._chain_id)
        cursor: ChainCursor = row
        return cursor

    async def _proxies(self) -> Proxies:
        known = ContractSet(await self._contracts())
        return Proxies(await ProxyStore(self._engine, self._chain_id).load(), known.kind_of)

    async def _contracts(self) -> list[Contract]:
        query = select(*CONTRACT_FIELDS).where(MonitoredContract.chain_id == self._chain_id)
        async with self._engine.connect() as connection:
            return [Contract(*row) for row in await connection.execute(query.order_by(MonitoredContract.address))]

    async def _events(self, first: int, last: int) -> Sequence[RowMapping]:
        query = select(ContractEvent.__table__).where(
            ContractEvent.chain_id == self._chain_id, ContractEvent.block_number.between(first, last)
        )
        async with self._engine.connect() as connection:
            return (await connection.execute(query)).mappings().all()

    async def _undecoded(
        self, connection: AsyncConnection, kind: str | None, after: tuple[int, int]
    ) -> Sequence[Row[Any]]:
        position = (ContractEvent.block_number, ContractEvent.log_index)
        later = (position[0] > after[0]) | ((position[0] == after[0]) & (position[1] > after[1]))
        query = select(ContractEvent.__table__).where(
            ContractEvent.chain_id == self._chain_id, ContractEvent.name.is_(None), later
        )
        if kind is not None:
            query = query.where(ContractEvent.kind == kind)
        return (await connection.execute(query.order_by(*position).limit(REDECODE_PAGE))).all()


def _position(row: Row[Any]) -> tuple[int, int]:
    return row.block_number, row.log_index


def _as_stored(row: EventRow) -> dict[str, Any]:
    """A row for COPY as it reads when it is stored."""
    return row._asdict() | {
        "block_hash": "0x" + row.block_hash.hex(),
        "transaction_hash": "0x" + row.transaction_hash.hex(),
        "address": address_from_bytes(row.address),
        "args": None if row.args is None else orjson.loads(row.args),
    }


def _differences(
    stored: dict[tuple[int, int], dict[str, Any]], chain: dict[tuple[int, int], dict[str, Any]]
) -> list[Difference]:
    found = []
    for position in sorted(stored.keys() | chain.keys()):
        if position not in stored:
            found.append(Difference(*position, "missing"))
        elif position not in chain:
            found.append(Difference(*position, "surplus"))
        else:
            columns = [name for name, value in chain[position].items() if stored[position][name] != value]
            found += [Difference(*position, name) for name in columns]
    return found
