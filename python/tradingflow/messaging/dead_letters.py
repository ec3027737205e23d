"""Reading the dead letters of the partition queues."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aio_pika.abc import AbstractIncomingMessage

from tradingflow.messaging.broker import Broker
from tradingflow.messaging.consuming import consume_in_order
from tradingflow.messaging.topology import CYCLES_DEAD

REASON_HEADER = "x-reason"


@dataclass(frozen=True)
class BuriedMessage:
    """One dead letter as the broker has it; `routing_key` is the partition queue it died in."""

    message_id: str
    routing_key: str
    body: bytes
    reason: str


Keep = Callable[[BuriedMessage], Awaitable[None]]


async def consume_dead_letters(broker: Broker, keep: Keep) -> None:
    """Hand every dead letter to `keep` until cancelled, as `consume_in_order` does."""

    async def receive(message: AbstractIncomingMessage) -> None:
        await keep(_buried(message))

    await consume_in_order(broker, CYCLES_DEAD, receive)


def _buried(message: AbstractIncomingMessage) -> BuriedMessage:
    headers: dict[str, Any] = dict(message.headers)
    deaths = headers.get("x-death") or [{}]
    reason = headers.get(REASON_HEADER) or f"not handled by any worker ({deaths[0].get('reason', 'unknown')})"
    message_id = message.message_id or hashlib.sha256(message.body).hexdigest()
    return BuriedMessage(message_id, message.routing_key or "", message.body, str(reason))
