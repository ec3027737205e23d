"""Event rows in PostgreSQL's binary COPY format.

Written out by hand because it is the hot path of a backfill: the driver looks up a codec for each of 13 columns of each
row, which costs several times what this does. Source: PostgreSQL documentation, COPY, "Binary Format"; arrays as in
`array_recv`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from struct import Struct

from tradingflow.monitor.decoder import MOST_TOPICS, EventRow

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_JSONB_VERSION = b"\x01"
_BYTEA_OID = 17
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_CHUNK_ROWS = 1000
_COLUMNS = len(EventRow._fields)

_length = Struct("!i").pack
# Column count, then chain id and block number as bigint, log index as integer, block hash, transaction hash and address
# as bytea, each with its length in front.
_head = Struct("!hiqiqiii32si32si20s").pack
_bigint = Struct("!iq").pack


def _array_head(topics: int) -> bytes:
    """What stands before the words of an array of `topics` words, the length of the first one included."""
    if topics == 0:
        return Struct("!iiii").pack(12, 0, 0, _BYTEA_OID)
    return Struct("!iiiiiii").pack(20 + 36 * topics, 1, 0, _BYTEA_OID, topics, 1, 32)


_ARRAY_HEADS = [_array_head(topics) for topics in range(MOST_TOPICS + 1)]
_TOPIC_LENGTH = _length(32)


@lru_cache(maxsize=4096)
def _text(value: str | None) -> bytes:
    if value is None:
        return _NULL
    raw = value.encode()
    return _length(len(raw)) + raw


@lru_cache(maxsize=4096)
def _time(value: datetime) -> bytes:
    """Microseconds since 2000; block times are whole seconds."""
    since = value - _EPOCH
    return _bigint(8, (since.days * 86_400 + since.seconds) * 1_000_000)


def _encoded(row: EventRow) -> bytes:
    """One row; its columns in the order of EventRow."""
    chain_id, number, log_index, block_hash, transaction_hash, address, kind, name, args, reason, topics, data, time = (
        row
    )
    return b"".join(
        (
            _head(_COLUMNS, 8, chain_id, 8, number, 4, log_index, 32, block_hash, 32, transaction_hash, 20, address),
            _text(kind),
            _text(name),
            _NULL if args is None else _length(len(args) + 1) + _JSONB_VERSION + args,
            _text(reason),
            _ARRAY_HEADS[len(topics)],
            _TOPIC_LENGTH.join(topics),
            _length(len(data)),
            data,
            _time(time),
        )
    )


def binary_copy(rows: Sequence[EventRow]) -> Iterator[bytes]:
    """The whole COPY stream of these rows, in pieces."""
    yield _SIGNATURE
    for start in range(0, len(rows), _CHUNK_ROWS):
        yield b"".join([_encoded(row) for row in rows[start : start + _CHUNK_ROWS]])
    yield _TRAILER
