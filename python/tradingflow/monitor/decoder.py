"""Raw logs to rows of `contract_events`. What cannot be decoded is kept raw with the reason, never dropped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from tradingflow.chain.decoder import Undecodable
from tradingflow.chain.registry import AbiRegistry
from tradingflow.chain.rpc import Distrusted, RawLog
from tradingflow.monitor.contracts import Contract

WORD = 32


class EventRow(NamedTuple):
    """One row of `contract_events` as PostgreSQL takes it; `args` is JSON text."""

    chain_id: int
    block_number: int
    log_index: int
    block_hash: bytes
    transaction_hash: bytes
    address: bytes
    kind: str
    name: str | None
    args: str | None
    undecoded_reason: str | None
    topics: list[bytes]
    data: bytes
    block_time: datetime


class Decoded(NamedTuple):
    """What the ABI made of a log: name and arguments, or the reason why not."""

    name: str | None
    args: dict[str, Any] | None
    reason: str | None


def decode_log(registry: AbiRegistry, kind: str, topics: list[bytes], data: bytes) -> Decoded:
    try:
        name, args = registry.decode(kind, topics, data)
    except Undecodable as error:
        return Decoded(None, None, error.reason)
    return Decoded(name, args, None)


def event_row(
    chain_id: int, contract: Contract, log: RawLog, block_time: datetime, registry: AbiRegistry
) -> tuple[EventRow, Decoded]:
    """The row of one log, and what was decoded. Raises Distrusted when the log itself is not well-formed hex."""
    try:
        topics = [bytes.fromhex(topic[2:]) for topic in log.topics]
        data = bytes.fromhex(log.data[2:])
        address = bytes.fromhex(log.address[2:])
        decoded = decode_log(registry, contract.kind, topics, data)
        row = EventRow(
            chain_id,
            int(log.block_number, 16),
            int(log.log_index, 16),
            bytes.fromhex(log.block_hash[2:]),
            bytes.fromhex(log.transaction_hash[2:]),
            address,
            contract.kind,
            decoded.name,
            None if decoded.args is None else orjson.dumps(decoded.args).decode(),
            decoded.reason,
            topics,
            data,
            block_time,
        )
    except ValueError as error:
        raise Distrusted("a node sent a log whose fields are not hex") from error
    if not _has_right_lengths(row):
        raise Distrusted("a node sent a log whose fields have the wrong length")
    return row, decoded


def _has_right_lengths(row: EventRow) -> bool:
    return (
        len(row.block_hash) == WORD
        and len(row.transaction_hash) == WORD
        and len(row.address) == 20
        and len(row.topics) <= 4
        and all(len(topic) == WORD for topic in row.topics)
    )


def block_time(timestamp_s: int) -> datetime:
    """The UTC time of a block. Raises Distrusted for one no calendar has."""
    try:
        return datetime.fromtimestamp(timestamp_s, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Distrusted(f"a node sent a block of the time {timestamp_s}") from error
