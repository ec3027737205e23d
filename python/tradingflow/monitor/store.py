"""Everything the Monitor reads and writes in PostgreSQL.

`commit` and `rollback` are the only two ways the stored chain changes. Each is one transaction, and each first moves
the cursor from where the caller believes it to be, with the contracts it had when they were last loaded here: a second
Monitor, or one that woke up late, changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from asyncpg import DataError, ProgramLimitExceededError
from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tradingflow.chain.registry import AbiRegistry
from tradingflow.core.errors import Conflict, InvalidInput
from tradingflow.core.logging import get_logger
from tradingflow.db.models.chain import (
    ChainBlock,
    ChainCursor,
    ContractAbi,
    ContractEvent,
    FactoryRule,
    MonitoredContract,
)
from tradingflow.db.outbox import enqueue
from tradingflow.db.types import EvmAddress
from tradingflow.monitor.contracts import Contract
from tradingflow.monitor.copy import binary_copy
from tradingflow.monitor.decoder import EventRow
from tradingflow.monitor.discovery import Discovery
from tradingflow.monitor.discovery import FactoryRule as Rule
from tradingflow.monitor.notify import LANE, announce, pieces_of, revert_messages
from tradingflow.monitor.proxies import Implementation
from tradingflow.monitor.proxy_store import (
    forget_examination,
    forget_implementations,
    insert_implementations,
    rollback_implementations,
)

log = get_logger(__name__)

BLOCKS = ChainBlock.__table__
EVENTS = ContractEvent.__table__
CONTRACT_FIELDS = (
    MonitoredContract.address,
    MonitoredContract.kind,
    MonitoredContract.from_block,
    MonitoredContract.discovered_by,
)
BLOCK_COLUMNS = ("chain_id", "number", "hash", "parent_hash", "timestamp")


class CursorMoved(Conflict):
    """Somebody else wrote this chain since we read its cursor: read it again."""

    def __init__(self, chain_id: int) -> None:
        super().__init__("cursor_moved", f"chain {chain_id} was changed by another Monitor, or an operator")


@dataclass(frozen=True)
class Cursor:
    next_block: int
    next_final_block: int
    halted_reason: str | None
    generation: int


class News(NamedTuple):
    """`version` changes with the ABIs and factory rules that are kept."""

    contracts_wait: bool
    version: tuple[Any, ...]


# (chain id, number, hash, parent hash, time), as COPY takes it.
BlockRow = tuple[int, int, bytes, bytes, datetime]
# (block number, events stored of it), lowest first.
Held = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Batch:
    """Consecutive blocks [first_block, next_block) as they will be stored.

    `blocks` need not hold every block of the range; those without events below finality are left out.
    """

    chain_id: int
    first_block: int
    next_block: int
    blocks: Sequence[BlockRow]
    events: Sequence[EventRow]
    discovered: Sequence[Contract] = field(default=())
    upgrades: Sequence[Implementation] = field(default=())


class ChainStore:
    """The stored side of one chain. `finality_blocks` is how deep a reorg may go."""

    def __init__(self, engine: AsyncEngine, chain_id: int, finality_blocks: int) -> None:
        self._engine = engine
        self._chain_id = chain_id
        self._finality = finality_blocks
        # Of the contracts our caller reads for.
        self._generation = 0

    async def prepare(self, start_block: int, configured: Sequence[Contract]) -> None:
        """Create the cursor and the configured contracts where they are missing."""
        async with self._engine.begin() as connection:
            cursor = {"chain_id": self._chain_id, "next_block": start_block, "next_final_block": start_block}
            await connection.execute(
                upsert(ChainCursor).values(**cursor, updated_at=func.clock_timestamp()).on_conflict_do_nothing()
            )
            await self._insert_contracts(connection, configured)

    async def cursor(self) -> Cursor:
        async with self._engine.connect() as connection:
            return await self._cursor(connection)

    async def _cursor(self, connection: AsyncConnection, *, lock: bool = False) -> Cursor:
        cursor = (ChainCursor.next_block, ChainCursor.next_final_block, ChainCursor.halted_reason)
        query = select(*cursor, ChainCursor.generation).where(ChainCursor.chain_id == self._chain_id)
        row = (await connection.execute(query.with_for_update() if lock else query)).one()
        return Cursor(*row)

    async def load_abis(self, registry: AbiRegistry) -> None:
        """Add the ABIs that are not built in; one that is none is said and passed over."""
        async with self._engine.connect() as connection:
            rows = (await connection.execute(select(ContractAbi.kind, ContractAbi.entries))).all()
        for kind, entries in rows:
            try:
                registry.add(kind, entries)
            except InvalidInput as error:
                log.warning("ABI passed over", kind=kind, detail=error.detail)

    async def discovery(self) -> Discovery:
        """How contracts are discovered: by the built-in rules, and those an operator gave."""
        rules = FactoryRule.__table__.c
        query = select(rules.factory_kind, rules.event, rules.argument, rules.child_kind)
        async with self._engine.connect() as connection:
            return Discovery(Rule(*row) for row in await connection.execute(query))

    async def recent_blocks(self, next_block: int) -> list[tuple[int, str]]:
        """(number, hash) of the stored blocks that a reorg may still replace, lowest first."""
        query = (
            select(ChainBlock.number, ChainBlock.hash)
            .where(ChainBlock.chain_id == self._chain_id, ChainBlock.number >= self._keep_from(next_block))
            .order_by(ChainBlock.number)
        )
        async with self._engine.connect() as connection:
            return [(number, block_hash) for number, block_hash in await connection.execute(query)]

    def _keep_from(self, next_block: int) -> int:
        """The lowest block kept although it may hold no event: the ancestor of the deepest allowed reorg."""
        return next_block - 1 - self._finality

    async def adopt(self, next_block: int, *, since_load: bool = False) -> list[Contract]:
        """Take up contracts added since the last call: followed from `next_block`, their past left to history.

        Returns all contracts the follower must read from the chain at `next_block` on. Raises CursorMoved when the
        chain is no longer stored up to there, and where `since_load` says that the caller goes on with what it loaded
        before (proxies, ABIs), when others changed what is followed since.
        """
        async with self._engine.begin() as connection:
            cursor = await self._cursor(connection, lock=True)
            is_stale = since_load and cursor.generation != self._generation
            if is_stale or cursor.next_block != next_block:
                raise CursorMoved(self._chain_id)
            taken_up = await connection.scalars(
                update(MonitoredContract)
                .where(MonitoredContract.chain_id == self._chain_id, MonitoredContract.live_from.is_(None))
                .values(
                    live_from=func.greatest(MonitoredContract.from_block, next_block),
                    history_next=MonitoredContract.from_block,
                )
                .returning(MonitoredContract.address)
            )
            addresses = taken_up.all()
            await self._forget_events(connection, addresses)  # stored by what a user said, until now
            generation = await self._next_generation(connection) if addresses else cursor.generation
            rows = await connection.execute(
                select(*CONTRACT_FIELDS)
                .where(MonitoredContract.chain_id == self._chain_id)
                .order_by(MonitoredContract.from_block, MonitoredContract.address)
            )
            contracts = [Contract(*row) for row in rows]
        self._generation = generation
        return contracts

    async def end_following(self, connection: AsyncConnection, address: str) -> None:
        """Store no more events of a contract that no factory announced; those stored stay."""
        await self._cursor(connection, lock=True)
        ours = (MonitoredContract.chain_id == self._chain_id, MonitoredContract.address == address)
        await connection.execute(delete(MonitoredContract).where(*ours, MonitoredContract.discovered_by.is_(None)))
        await forget_implementations(connection, self._chain_id, address)
        await self._next_generation(connection)

    async def _next_generation(self, connection: AsyncConnection) -> int:
        """Whoever else reads this chain must load its contracts again before he writes."""
        following = update(ChainCursor).where(ChainCursor.chain_id == self._chain_id)
        counted = following.values(generation=ChainCursor.generation + 1).returning(ChainCursor.generation)
        return (await connection.scalars(counted)).one()

    async def news(self) -> News:
        """Whether contracts wait to be adopted, and which ABIs and factory rules there are."""
        waiting = (
            select(MonitoredContract.address)
            .where(MonitoredContract.chain_id == self._chain_id, MonitoredContract.live_from.is_(None))
            .exists()
        )
        abis = select(func.count(), func.max(ContractAbi.created_at)).subquery()
        rules = select(func.count()).select_from(FactoryRule).scalar_subquery()
        async with self._engine.connect() as connection:
            is_waiting, *version = (await connection.execute(select(waiting, *abis.c, rules))).one()
        return News(is_waiting, tuple(version))

    async def commit(self, batch: Batch, head: int) -> None:
        """Store a batch. Raises CursorMoved when the cursor is not at its first block, or contracts came in beside."""
        generation = self._generation
        async with self._engine.begin() as connection:
            await self._move_cursor(connection, batch.first_block, batch.next_block)
            await self._copy_blocks(connection, batch)
            await self._copy_events(connection, batch.events)
            if await self._insert_contracts(connection, batch.discovered, live_from=0, next_block=batch.next_block):
                generation = await self._next_generation(connection)
            await insert_implementations(connection, self._chain_id, batch.upgrades)
            await self._prune_blocks(connection, batch.first_block, batch.next_block)
            held = sorted(Counter(row.block_number for row in batch.events).items())
            await self._announce(connection, held)
            await self._announce_final(connection, head, batch, held)
        self._generation = generation

    async def _move_cursor(self, connection: AsyncConnection, expected: int, next_block: int) -> None:
        moved = await connection.execute(
            update(ChainCursor)
            .where(
                ChainCursor.chain_id == self._chain_id,
                ChainCursor.next_block == expected,
                ChainCursor.generation == self._generation,
                ChainCursor.halted_reason.is_(None),
            )
            .values(next_block=next_block, updated_at=func.clock_timestamp())
        )
        if moved.rowcount != 1:
            raise CursorMoved(self._chain_id)

    async def _copy_blocks(self, connection: AsyncConnection, batch: Batch) -> None:
        if batch.blocks:
            driver = await _driver(connection)
            await driver.copy_records_to_table(ChainBlock.__tablename__, records=batch.blocks, columns=BLOCK_COLUMNS)

    async def _copy_events(self, connection: AsyncConnection, events: Sequence[EventRow]) -> None:
        """Store these; one whose arguments PostgreSQL refuses is stored raw with the reason, and stops no other."""

        async def source() -> AsyncIterator[bytes]:
            for piece in binary_copy(events):
                yield piece

        if not events:
            return
        try:
            async with connection.begin_nested():
                driver = await _driver(connection)
                await driver.copy_to_table(
                    ContractEvent.__tablename__, source=source(), columns=EventRow._fields, format="binary"
                )
        except (DataError, ProgramLimitExceededError) as error:
            middle = len(events) // 2
            halves = [events[:middle], events[middle:]] if middle else [[_raw(events[0], error)]]
            for half in halves:
                await self._copy_events(connection, half)

    async def _insert_contracts(
        self,
        connection: AsyncConnection,
        contracts: Sequence[Contract],
        *,
        live_from: int | None = None,
        next_block: int | None = None,
    ) -> list[Contract]:
        """Insert those that are not monitored yet, or only as a user said, and return them.

        They are followed from `live_from` or their first block on, those a user said something else of from
        `next_block`, and their past is read anew. Where both are None, the follower takes them up.
        """
        if not contracts:
            return []
        statement = upsert(MonitoredContract).on_conflict_do_nothing().returning(*CONTRACT_FIELDS)
        inserted = await connection.execute(statement, [self._contract_row(each, live_from) for each in contracts])
        added = [Contract(*row) for row in inserted]
        displacing = await self._displacing(connection, contracts)
        if displacing:
            rows = [self._contract_row(contract, next_block) for contract in displacing]
            change = upsert(MonitoredContract)
            columns = {name: change.excluded[name] for name in rows[0]}
            await connection.execute(
                change.on_conflict_do_update(index_elements=["chain_id", "address"], set_=columns), rows
            )
            await self._forget_events(connection, [contract.address for contract in displacing])
        return added + displacing

    def _contract_row(self, contract: Contract, live_from: int | None) -> dict[str, Any]:
        return {
            "chain_id": self._chain_id,
            "address": contract.address,
            "kind": contract.kind,
            "from_block": contract.from_block,
            "discovered_by": contract.discovered_by,
            "live_from": None if live_from is None else max(contract.from_block, live_from),
            "history_next": None if live_from is None else contract.from_block,
            "is_proxy": None if contract.discovered_by is None else False,
        }

    async def _displacing(self, connection: AsyncConnection, contracts: Sequence[Contract]) -> list[Contract]:
        """Those of these that take the place of what is stored of their address."""
        by_address = {contract.address_bytes: contract for contract in contracts}
        query = select(*CONTRACT_FIELDS).where(
            MonitoredContract.chain_id == self._chain_id,
            MonitoredContract.discovered_by.is_(None),
            MonitoredContract.address == func.any(bindparam("addresses", type_=ARRAY(EvmAddress))),
        )
        addresses = [contract.address for contract in contracts]
        stored = [Contract(*row) for row in await connection.execute(query, {"addresses": addresses})]
        pairs = [(by_address[known.address_bytes], known) for known in stored]
        return [contract for contract, known in pairs if contract.displaces(known)]

    async def _forget_events(self, connection: AsyncConnection, addresses: Sequence[str]) -> None:
        await connection.execute(
            delete(ContractEvent).where(
                ContractEvent.chain_id == self._chain_id,
                ContractEvent.address == func.any(bindparam("addresses", type_=ARRAY(EvmAddress))),
            ),
            {"addresses": list(addresses)},
        )

    async def _prune_blocks(self, connection: AsyncConnection, first_block: int, next_block: int) -> None:
        """Drop blocks without events that no reorg can replace any more."""
        has_events = (
            select(EVENTS.c.log_index)
            .where(EVENTS.c.chain_id == BLOCKS.c.chain_id, EVENTS.c.block_number == BLOCKS.c.number)
            .exists()
        )
        await connection.execute(
            delete(ChainBlock).where(
                ChainBlock.chain_id == self._chain_id,
                ChainBlock.number >= self._keep_from(first_block),
                ChainBlock.number < self._keep_from(next_block),
                ~has_events,
            )
        )

    async def _announce_final(self, connection: AsyncConnection, head: int, batch: Batch, held: Held) -> None:
        """Announce as final what is stored and `finality_blocks` below the head."""
        cursor = await self._cursor(connection)
        until = min(cursor.next_block, head - self._finality + 1)
        first = cursor.next_final_block
        if until <= first:
            return
        await connection.execute(
            update(ChainCursor).where(ChainCursor.chain_id == self._chain_id).values(next_final_block=until)
        )
        is_the_batch = (first, until) == (batch.first_block, batch.next_block)
        await self._announce(connection, held if is_the_batch else await self._held(connection, first, until), True)

    async def _held(self, connection: AsyncConnection, first: int, until: int) -> Held:
        counts = (
            select(ContractEvent.block_number, func.count())
            .where(
                ContractEvent.chain_id == self._chain_id,
                ContractEvent.block_number >= first,
                ContractEvent.block_number < until,
            )
            .group_by(ContractEvent.block_number)
            .order_by(ContractEvent.block_number)
        )
        return [(number, count) for number, count in await connection.execute(counts)]

    async def _announce(self, connection: AsyncConnection, held: Held, final: bool = False) -> None:
        """Announce the stored events of these blocks in pieces the relay publishes in a moment."""
        pieces = (announce(self._chain_id, *piece, final=final) for piece in pieces_of(held))
        await enqueue(connection, LANE, [message for piece in pieces for message in piece])

    async def first_gap(self, most_contracts: int) -> tuple[list[Contract], int, int] | None:
        """(contracts, first, until): the lowest blocks [first, until) whose events are missing for these contracts."""
        next_missing = MonitoredContract.history_next
        ours = (MonitoredContract.chain_id == self._chain_id, next_missing < MonitoredContract.live_from)
        async with self._engine.connect() as connection:
            lowest = select(next_missing).where(*ours).distinct().order_by(next_missing).limit(2)
            nexts = [number for (number,) in await connection.execute(lowest) if number is not None]
            if not nexts:
                return None
            query = select(*CONTRACT_FIELDS, MonitoredContract.live_from).where(*ours, next_missing == nexts[0])
            rows = (await connection.execute(query.order_by(MonitoredContract.address).limit(most_contracts))).all()
        until = min([*(row.live_from for row in rows), *nexts[1:]])
        return [Contract(*row[:-1]) for row in rows], nexts[0], until

    async def commit_history(self, batch: Batch, contracts: Sequence[Contract], next_block: int) -> list[Contract]:
        """Store the past of some contracts in the blocks of a batch; returns the contracts discovered that are new.

        Raises CursorMoved when the chain is no longer stored up to `next_block`, contracts came in beside, or the past
        of these is no longer read up to the batch: an operator had it read again.
        """
        addresses = [contract.address for contract in contracts]
        generation = self._generation
        async with self._engine.begin() as connection:
            cursor = await self._cursor(connection, lock=True)
            if (cursor.next_block, cursor.generation) != (next_block, generation):
                raise CursorMoved(self._chain_id)
            await self._insert_missing_blocks(connection, batch)
            await self._copy_events(connection, batch.events)
            moved = await connection.execute(
                update(MonitoredContract)
                .where(
                    MonitoredContract.chain_id == self._chain_id,
                    MonitoredContract.address.in_(addresses),
                    MonitoredContract.history_next == batch.first_block,
                )
                .values(history_next=batch.next_block)
            )
            if moved.rowcount != len(addresses):
                raise CursorMoved(self._chain_id)
            await insert_implementations(connection, self._chain_id, batch.upgrades)
            added = await self._insert_contracts(
                connection, batch.discovered, live_from=next_block, next_block=next_block
            )
            if added or batch.upgrades:
                generation = await self._next_generation(connection)
            for first, until in pieces_of(sorted(Counter(row.block_number for row in batch.events).items())):
                final_until = min(until, cursor.next_final_block)
                instant = announce(self._chain_id, first, until, addresses=addresses)
                final = announce(self._chain_id, first, final_until, addresses=addresses, final=True)
                await enqueue(connection, LANE, [*instant, *final])
        self._generation = generation
        return added

    async def _insert_missing_blocks(self, connection: AsyncConnection, batch: Batch) -> None:
        with_events = {row.block_number for row in batch.events}
        rows = [
            {
                "chain_id": chain_id,
                "number": number,
                "hash": "0x" + block_hash.hex(),
                "parent_hash": "0x" + parent_hash.hex(),
                "timestamp": time,
            }
            for chain_id, number, block_hash, parent_hash, time in batch.blocks
            if number in with_events
        ]
        if rows:
            await connection.execute(upsert(ChainBlock).on_conflict_do_nothing(), rows)

    async def rollback(self, expected_next: int, ancestor: int) -> int:
        """Undo every block above `ancestor`: its events, discoveries and all; returns how many events.

        Consumers are told event by event. Raises CursorMoved.
        """
        async with self._engine.begin() as connection:
            await self._move_cursor(connection, expected_next, ancestor + 1)
            return await self._undo(connection, expected_next - 1, ancestor, next_final_block=ancestor + 1)

    async def _undo(self, connection: AsyncConnection, tip: int, ancestor: int, *, next_final_block: int) -> int:
        above = ContractEvent.block_number > ancestor
        gone = delete(ContractEvent).where(ContractEvent.chain_id == self._chain_id, above)
        removed = (await connection.execute(gone.returning(ContractEvent.__table__))).all()
        await connection.execute(
            delete(ChainBlock).where(ChainBlock.chain_id == self._chain_id, ChainBlock.number > ancestor)
        )
        await self._rollback_contracts(connection, ancestor)
        await self._next_generation(connection)
        await rollback_implementations(connection, self._chain_id, ancestor)
        messages = revert_messages(self._chain_id, ancestor, tip, removed, next_final_block)
        await enqueue(connection, LANE, messages)
        return len(removed)

    async def _rollback_contracts(self, connection: AsyncConnection, ancestor: int) -> None:
        ours = MonitoredContract.chain_id == self._chain_id
        await connection.execute(
            delete(MonitoredContract).where(
                ours, MonitoredContract.discovered_by.is_not(None), MonitoredContract.from_block > ancestor
            )
        )
        await forget_examination(connection, self._chain_id, ancestor)
        for column in (MonitoredContract.live_from, MonitoredContract.history_next):
            await connection.execute(
                update(MonitoredContract)
                .where(ours, column > ancestor + 1)
                .values({column: func.greatest(MonitoredContract.from_block, ancestor + 1)})
            )

    async def halt(self, reason: str) -> None:
        """Stop following this chain until an operator resumes it."""
        async with self._engine.begin() as connection:
            await self._set_cursor(connection, halted_reason=reason)

    async def resume(self, rewind_to: int | None = None) -> int:
        """Go on with a halted chain, from `rewind_to` + 1 when given; returns how many events that took back.

        Events that were announced as final are taken back on the final exchange as well.
        """
        async with self._engine.begin() as connection:
            cursor = await self._cursor(connection, lock=True)
            await self._set_cursor(connection, halted_reason=None)
            if rewind_to is None or rewind_to + 1 >= cursor.next_block:
                return 0
            next_final = min(cursor.next_final_block, rewind_to + 1)
            await self._set_cursor(connection, next_block=rewind_to + 1, next_final_block=next_final)
            tip, final = cursor.next_block - 1, cursor.next_final_block
            return await self._undo(connection, tip, rewind_to, next_final_block=final)

    async def _set_cursor(self, connection: AsyncConnection, **values: int | str | None) -> None:
        changed = update(ChainCursor).where(ChainCursor.chain_id == self._chain_id)
        await connection.execute(changed.values(**values, updated_at=func.clock_timestamp()))

    async def add_contracts(self, connection: AsyncConnection, contracts: Sequence[Contract]) -> None:
        """Have contracts taken up by the follower at its next round. Those monitored already stay as they are, but for
        what a user said."""
        await self._insert_contracts(connection, contracts)


def _raw(event: EventRow, error: Exception) -> EventRow:
    """The event without the arguments that PostgreSQL refused. Raises the error when it has none."""
    if event.args is None:
        raise error
    reason = f"PostgreSQL cannot store its arguments: {type(error).__name__}"
    log.warning("event stored raw", block_number=event.block_number, log_index=event.log_index, reason=reason)
    return event._replace(name=None, args=None, undecoded_reason=reason)


async def _driver(connection: AsyncConnection) -> Any:
    """The asyncpg connection below, in the same transaction: COPY is not SQLAlchemy's."""
    return (await connection.get_raw_connection()).driver_connection
