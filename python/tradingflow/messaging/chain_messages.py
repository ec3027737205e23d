"""What the Monitor says on `chain_events` and `chain_events_final`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from tradingflow.messaging.messages import Message, decode_strictly


class ChainEvent(Message, frozen=True, tag="chain_event"):
    """One stored contract event. `event_id` is `{chain_id}:{block_hash}:{log_index}`.

    A log that could not be decoded has the name "undecoded" and no arguments; the stored row keeps it raw. So has one
    whose name is too long for a routing key.
    """

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
    block_time: datetime


class ChainEventReverted(Message, frozen=True, tag="chain_event_reverted"):
    """A reorg removed this event from the chain; whoever acted on it takes that back."""

    event_id: str
    chain_id: int
    block_number: int
    block_hash: str
    transaction_hash: str
    log_index: int
    address: str
    kind: str
    name: str


class ChainReorged(Message, frozen=True, tag="chain_reorged"):
    """The blocks from `ancestor` + 1 to `old_tip` were replaced; their events were reverted one by one before."""

    chain_id: int
    ancestor: int
    old_tip: int


ChainMessage = ChainEvent | ChainEventReverted | ChainReorged

_decoder: msgspec.json.Decoder[ChainMessage] = msgspec.json.Decoder(ChainEvent | ChainEventReverted | ChainReorged)


def decode_chain_message(body: bytes) -> ChainMessage:
    """Raises as `decode_strictly`."""
    return decode_strictly(_decoder, body)
