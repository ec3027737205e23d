"""From stored events to messages on the `chain_events` exchanges, at least once and in chain order.

The transaction that stores a range of blocks puts one *announcement* of the range in the outbox, not a message an
event: backfills store tens of thousands of events a second. The relay turns an announcement into the messages of the
events then stored in that range. A rollback puts the reverting messages themselves in the outbox, since the rows are
gone. Within the lane everything leaves in the order it was written, so the last word on an event is the right one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.db.models.chain import ContractEvent
from tradingflow.db.outbox import OutgoingMessage
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.chain_messages import ChainEvent, ChainEventReverted, ChainReorged
from tradingflow.messaging.messages import encode
from tradingflow.messaging.topology import (
    CHAIN_EVENTS,
    CHAIN_EVENTS_FINAL,
    MAX_ROUTING_KEY_BYTES,
    chain_event_routing_key,
    chain_reorged_routing_key,
)

LANE = "monitor"
# An announcement is no exchange of the broker: the relay replaces it by what it announces.
ANNOUNCEMENT = "announcement"
UNDECODED = "undecoded"
PAGE = 1000
# The relay holds a transaction while it publishes a batch; PostgreSQL ends one that is idle for a minute.
PIECE_EVENTS = 2000
RELAY_BATCH = 10


class Announcement(msgspec.Struct, frozen=True):
    """The events stored in blocks [first, until) are to be published on `exchange`; only those of `addresses` where
    there are any."""

    chain_id: int
    first: int
    until: int
    exchange: str
    addresses: tuple[str, ...] = ()


def announce(
    chain_id: int, first: int, until: int, *, final: bool = False, addresses: Sequence[str] = ()
) -> list[OutgoingMessage]:
    """The announcement of a range, for the outbox; none for an empty range."""
    if first >= until:
        return []
    exchange = CHAIN_EVENTS_FINAL if final else CHAIN_EVENTS
    body = msgspec.json.encode(Announcement(chain_id, first, until, exchange, tuple(addresses)))
    return [OutgoingMessage(ANNOUNCEMENT, "", f"{exchange}:{chain_id}:{first}:{until}", body)]


def pieces_of(blocks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges [first, until) over ascending (block, events in it) that hold PIECE_EVENTS each, or one block."""
    pieces: list[tuple[int, int]] = []
    held = PIECE_EVENTS
    for number, count in blocks:
        if held + count > PIECE_EVENTS:
            pieces.append((number, number + 1))
            held = count
        else:
            pieces[-1] = (pieces[-1][0], number + 1)
            held += count
    return pieces


def event_id(chain_id: int, block_hash: str, log_index: int) -> str:
    return f"{chain_id}:{block_hash}:{log_index}"


def event_message(exchange: str, row: Row[Any]) -> OutgoingMessage:
    """The message of one row of `contract_events`."""
    name, key = _named(row)
    message = ChainEvent(
        event_id=event_id(row.chain_id, row.block_hash, row.log_index),
        chain_id=row.chain_id,
        block_number=row.block_number,
        block_hash=row.block_hash,
        transaction_hash=row.transaction_hash,
        log_index=row.log_index,
        address=row.address,
        kind=row.kind,
        name=name,
        args=row.args if name == row.name else {},
        block_time=row.block_time,
    )
    return OutgoingMessage(exchange, key, message.event_id, encode(message))


def _named(row: Row[Any]) -> tuple[str, str]:
    """The name an event is published under, and its routing key: one too long for a key goes as undecoded."""
    name = row.name or UNDECODED
    key = chain_event_routing_key(row.chain_id, row.kind, row.address, name)
    if len(key.encode()) <= MAX_ROUTING_KEY_BYTES:
        return name, key
    return UNDECODED, chain_event_routing_key(row.chain_id, row.kind, row.address, UNDECODED)


def revert_messages(
    chain_id: int, ancestor: int, old_tip: int, removed: Sequence[Row[Any]], next_final_block: int
) -> list[OutgoingMessage]:
    """What consumers hear of a rollback: every removed event, newest first, then the reorg itself.

    Events below `next_final_block` were announced as final; only an operator's rewind takes such back.
    """
    newest_first = sorted(removed, key=lambda row: (row.block_number, row.log_index), reverse=True)
    reverts = [_reverted(CHAIN_EVENTS, row) for row in newest_first]
    reverts += [_reverted(CHAIN_EVENTS_FINAL, row) for row in newest_first if row.block_number < next_final_block]
    reorged = OutgoingMessage(
        CHAIN_EVENTS,
        chain_reorged_routing_key(chain_id),
        f"{chain_id}:reorg:{ancestor}:{old_tip}",
        encode(ChainReorged(chain_id, ancestor, old_tip)),
    )
    return [*reverts, reorged]


def _reverted(exchange: str, row: Row[Any]) -> OutgoingMessage:
    name, key = _named(row)
    message = ChainEventReverted(
        event_id=event_id(row.chain_id, row.block_hash, row.log_index),
        chain_id=row.chain_id,
        block_number=row.block_number,
        block_hash=row.block_hash,
        transaction_hash=row.transaction_hash,
        log_index=row.log_index,
        address=row.address,
        kind=row.kind,
        name=name,
    )
    return OutgoingMessage(exchange, key, f"{message.event_id}:reverted", encode(message))


class EventPublisher:
    """What the outbox relay of the monitor's lane publishes with."""

    def __init__(self, engine: AsyncEngine, broker: Broker) -> None:
        self._engine = engine
        self._broker = broker

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        """Publish in order; returns once all are confirmed. Raises DependencyUnavailable."""
        direct: list[OutgoingMessage] = []
        for message in messages:
            if message.exchange != ANNOUNCEMENT:
                direct.append(message)
                continue
            await self._send(direct)
            direct = []
            async for page in self._announced(msgspec.json.decode(message.body, type=Announcement)):
                await self._send(page)
        await self._send(direct)

    async def _send(self, messages: Sequence[OutgoingMessage]) -> None:
        if messages:
            wire = [(m.exchange, m.routing_key, m.message_id, m.body) for m in messages]
            await self._broker.publish_all(wire, mandatory=False)

    async def _announced(self, announcement: Announcement) -> AsyncIterator[list[OutgoingMessage]]:
        """The announced events in chain order, in pages."""
        position = tuple_(ContractEvent.block_number, ContractEvent.log_index)
        after = (announcement.first, -1)
        only = [ContractEvent.address.in_(announcement.addresses)] if announcement.addresses else []
        while True:
            query = (
                select(ContractEvent.__table__)
                .where(
                    ContractEvent.chain_id == announcement.chain_id,
                    position > after,
                    ContractEvent.block_number < announcement.until,
                    *only,
                )
                .order_by(ContractEvent.block_number, ContractEvent.log_index)
                .limit(PAGE)
            )
            async with self._engine.connect() as connection:
                rows = (await connection.execute(query)).all()
            if rows:
                yield [event_message(announcement.exchange, row) for row in rows]
            if len(rows) < PAGE:
                return
            after = (rows[-1].block_number, rows[-1].log_index)
