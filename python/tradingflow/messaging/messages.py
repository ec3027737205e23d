"""What travels. Frozen, tagged by `type`, JSON on the wire; integers above 53 bits travel as strings.

Message ids are deterministic, so a message published twice is recognisably the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec

# As wide as the columns they end in: a number PostgreSQL refuses must be refused here, where one message is at stake.
Cycle = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Attempt = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]

# 64 signals a message were 8.5 times as fast as one; more gains nothing and makes redelivery coarse.
MAX_PACKED = 64
# RabbitMQ 4 takes messages of up to 16 MiB, and closes the channel at a larger one.
MAX_PACKED_BYTES = 4_000_000

Decoded = TypeVar("Decoded")


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of everything on the wire."""


class CycleStarted(Message, frozen=True, tag="cycle_started"):
    """A scheduled, manual or triggered cycle exists in the database and may run."""

    flow_pk: UUID
    cycle: Cycle


class Signals(Message, frozen=True, tag="signals"):
    """One node task ended: its outputs, for its followers in the same cycle (same partition).

    `outputs` is a JSON object of the handles that were taken; an edge from any other handle is not taken. It is
    left encoded: the worker that ran the node has the values already. `error` is that of a failed task.
    """

    flow_pk: UUID
    cycle: Cycle
    source_node: str
    status: str
    outputs: msgspec.Raw
    error: dict[str, str] | None
    attempt: Attempt
    started_at: datetime
    finished_at: datetime


class TradeRequested(Message, frozen=True, tag="trade_requested"):
    """A trade row waits for the executor."""

    trade_id: str


class TradeSettled(Message, frozen=True, tag="trade_settled"):
    """A trade ended, well or badly; the row says how. Sent to the partition of its cycle."""

    flow_pk: UUID
    cycle: Cycle
    node_id: str
    trade_id: str


CycleMessage = CycleStarted | Signals | TradeSettled

_encoder = msgspec.json.Encoder()
_cycle_decoder: msgspec.json.Decoder[CycleMessage | list[CycleMessage]] = msgspec.json.Decoder(
    CycleStarted | Signals | TradeSettled | list[CycleStarted | Signals | TradeSettled]
)


_trade_request_decoder = msgspec.json.Decoder(TradeRequested)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def packable(bodies: Iterable[bytes]) -> int:
    """How many of these, from the first on, go into one pack: at most MAX_PACKED with MAX_PACKED_BYTES together. A
    body larger than that goes alone."""
    count = size = 0
    for count, body in enumerate(bodies, 1):
        size += len(body)
        if count > MAX_PACKED or (size > MAX_PACKED_BYTES and count > 1):
            return count - 1
    return count


def pack(bodies: Sequence[bytes]) -> bytes:
    """One body for several encoded cycle messages of one partition."""
    return bodies[0] if len(bodies) == 1 else b"[" + b",".join(bodies) + b"]"


def decode_strictly(decoder: msgspec.json.Decoder[Decoded], body: bytes) -> Decoded:
    """Raises msgspec's DecodeError or ValidationError for whatever is no such message: also for bytes that are no
    UTF-8, and for nesting too deep to follow, which msgspec lets through as other errors."""
    try:
        return decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"not a message: {type(error).__name__}") from error


def decode_trade_request(body: bytes) -> TradeRequested:
    """Raises as `decode_strictly`."""
    return decode_strictly(_trade_request_decoder, body)


def decode_cycle_messages(body: bytes) -> list[CycleMessage]:
    """What `encode` or `pack` wrote. Raises msgspec.ValidationError or DecodeError for anything else."""
    decoded = decode_strictly(_cycle_decoder, body)
    return decoded if isinstance(decoded, list) else [decoded]
