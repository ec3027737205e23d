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

from tradingflow.monitor.decoder import EventRow

_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_JSONB_VERSION = b"\x01"
_BYTEA_OID = 17
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_CHUNK_ROWS = 1000

_length = Struct("!i").pack
# Column count, then chain id and block number as bigint, log index as integer, each with its length in front.
_head = Struct("!hiqiqii").pack
_bigint = Struct("!iq").pack
_array_head = Struct("!iiiii").pack
_empty_array = Struct("!iiii").pack(12, 0, 0, _BYTEA_OID)
_TOPIC_LENGTH = _length(32)


def _field(value: bytes) -> bytes:
    return _length(len(value)) + value


@lru_cache(maxsize=4096)
def _text(value: str | None) -> bytes:
    return _NULL if value is None else _field(value.encode())


@lru_cache(maxsize=4096)
def _time(value: datetime) -> bytes:
    """Microseconds since 2000; block times are whole seconds."""
    since = value - _EPOCH
    return _bigint(8, (since.days * 86_400 + since.seconds) * 1_000_000)


def _topics(topics: Sequence[bytes]) -> bytes:
    if not topics:
        return _empty_array
    body = _TOPIC_LENGTH + _TOPIC_LENGTH.join(topics)
    return _length(20 + len(body)) + _array_head(1, 0, _BYTEA_OID, len(topics), 1) + body


def _encoded(row: EventRow) -> bytes:
    args = row.args
    return b"".join(
        (
            _head(len(row), 8, row.chain_id, 8, row.block_number, 4, row.log_index),
            _field(row.block_hash),
            _field(row.transaction_hash),
            _field(row.address),
            _text(row.kind),
            _text(row.name),
            _NULL if args is None else _length(len(args) + 1) + _JSONB_VERSION + args,
            _text(row.undecoded_reason),
            _topics(row.topics),
            _field(row.data),
            _time(row.block_time),
        )
    )


def binary_copy(rows: Sequence[EventRow]) -> Iterator[bytes]:
    """The whole COPY stream of these rows, in pieces."""
    yield _SIGNATURE
    for start in range(0, len(rows), _CHUNK_ROWS):
        yield b"".join([_encoded(row) for row in rows[start : start + _CHUNK_ROWS]])
    yield _TRAILER
