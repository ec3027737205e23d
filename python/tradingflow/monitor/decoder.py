"""Raw logs to rows of `contract_events`. What cannot be decoded is kept raw with the reason, never dropped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from tradingflow.chain.decoder import Undecodable
from tradingflow.chain.registry import WILDCARD, AbiRegistry
from tradingflow.chain.rpc import Distrusted, Header, RawLog
from tradingflow.core.evm import to_bytes
from tradingflow.monitor.contracts import Contract

# A 32-byte word as 0x hex.
HEX_WORD = 66
WORD = 32
MOST_TOPICS = 4
# Of the arguments as JSON, which pages and messages hold whole. No ordinary event comes near.
MAX_ARGS_BYTES = 1_000_000


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
    args: bytes | None
    undecoded_reason: str | None
    topics: list[bytes]
    data: bytes
    block_time: datetime


class Block(NamedTuple):
    """What every event of one block shares."""

    number: int
    hash: bytes
    time: datetime


class Decoded(NamedTuple):
    """What the ABI made of a log: name and arguments (`args_json` is the same as text), or the reason why not."""

    name: str | None
    args: dict[str, Any] | None
    args_json: bytes | None
    reason: str | None


def decode_log(
    registry: AbiRegistry, kind: str, topics: Sequence[bytes], data: bytes, implementation_kind: str | None = None
) -> Decoded:
    """By the ABI of the implementation where there is one, of the contract's kind, or of any contract: the first that
    fits. The reason is the first one's."""
    kinds = (kind, WILDCARD) if implementation_kind is None else (implementation_kind, kind, WILDCARD)
    reason = None
    for candidate in kinds:
        try:
            name, args = registry.decode(candidate, topics, data)
        except Undecodable as error:
            reason = reason or error.reason
            continue
        args_json = orjson.dumps(args)
        if len(args_json) <= MAX_ARGS_BYTES:
            return Decoded(name, args, args_json, None)
        reason = reason or f"its arguments take more than {MAX_ARGS_BYTES} bytes as JSON"
    return Decoded(None, None, None, reason)


def block_of(header: Header) -> Block:
    return Block(header.height, to_bytes(header.hash), block_time(header.time))


def event_row(
    chain_id: int,
    contract: Contract,
    block: Block,
    log: RawLog,
    registry: AbiRegistry,
    implementation_kind: str | None = None,
) -> tuple[EventRow, Decoded]:
    """The row of one log, and what was decoded. Raises Distrusted when the log itself is not well-formed."""
    topics, data, transaction_hash = _raw_parts(log)
    decoded = decode_log(registry, contract.kind, topics, data, implementation_kind)
    row = EventRow(
        chain_id,
        block.number,
        int(log.log_index, 16),
        block.hash,
        transaction_hash,
        contract.address_bytes,
        contract.kind,
        decoded.name,
        decoded.args_json,
        decoded.reason,
        topics,
        data,
        block.time,
    )
    return row, decoded


def _raw_parts(log: RawLog) -> tuple[list[bytes], bytes, bytes]:
    """Topics, data and transaction hash as bytes."""
    words = [log.transaction_hash, *log.topics]
    if len(words) > MOST_TOPICS + 1 or [text for text in words if len(text) != HEX_WORD]:
        raise Distrusted("a node sent a log whose hashes have the wrong length")
    text = "".join([*words, log.data])
    try:
        raw = bytes.fromhex(text.replace("0x", ""))  # one conversion of all is half the cost of one of each
    except ValueError as error:
        raise Distrusted("a node sent a log whose fields are not hex") from error
    if 2 * len(raw) != len(text) - 2 * (len(words) + 1):
        raise Distrusted("a node sent a log whose fields are not 0x hex")
    end = WORD * len(words)
    return [raw[at : at + WORD] for at in range(WORD, end, WORD)], raw[end:], raw[:WORD]


def block_time(timestamp_s: int) -> datetime:
    """The UTC time of a block. Raises Distrusted for one no calendar has."""
    try:
        return datetime.fromtimestamp(timestamp_s, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise Distrusted(f"a node sent a block of the time {timestamp_s}") from error
