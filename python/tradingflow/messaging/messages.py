"""What travels. Frozen, tagged by `type`, JSON on the wire; integers above 53 bits travel as strings.

Message ids are deterministic, so a message published twice is recognisably the same.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of everything on the wire."""


class CycleStarted(Message, frozen=True, tag="cycle_started"):
    """A scheduled, manual or triggered cycle exists in the database and may run."""

    flow_pk: UUID
    cycle: int


class Signal(msgspec.Struct, frozen=True):
    """One value on one edge."""

    source_node: str
    source_handle: str
    target_node: str
    target_handle: str
    value: Any


class Signals(Message, frozen=True, tag="signals"):
    """Outputs of one finished node task, for its followers in the same cycle (same partition).

    `skipped` names the edges, as (source handle, target node, target handle), whose branch was not taken.
    """

    flow_pk: UUID
    cycle: int
    source_node: str
    signals: tuple[Signal, ...]
    skipped: tuple[tuple[str, str, str], ...] = ()


class TradeRequested(Message, frozen=True, tag="trade_requested"):
    """A trade row waits for the executor."""

    trade_id: str


class TradeSettled(Message, frozen=True, tag="trade_settled"):
    """A trade ended, well or badly; the row says how. Sent to the partition of its cycle."""

    flow_pk: UUID
    cycle: int
    node_id: str
    trade_id: str


class ChainEvent(Message, frozen=True, tag="chain_event"):
    """One stored, decoded contract event. `event_id` is `{chain_id}:{block_hash}:{log_index}`."""

    event_id: str
    chain_id: int
    block_number: int
    block_hash: str
    transaction_hash: str
    log_index: int
    address: str
    kind: str
    name: str
    args: dict[str, Any]


CycleMessage = CycleStarted | Signals | TradeSettled

_encoder = msgspec.json.Encoder()
_cycle_decoder: msgspec.json.Decoder[CycleMessage] = msgspec.json.Decoder(CycleStarted | Signals | TradeSettled)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode_cycle_message(body: bytes) -> CycleMessage:
    """Raises msgspec.ValidationError or DecodeError for anything that is not a cycle message."""
    return _cycle_decoder.decode(body)
