"""Reading the dead letters of the partition queues."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aio_pika.abc import AbstractIncomingMessage

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import get_logger
from tradingflow.messaging.broker import Broker, to_its_end
from tradingflow.messaging.topology import CYCLES_DEAD

log = get_logger(__name__)

REASON_HEADER = "x-reason"
PREFETCH = 50
RETRY_S = 1.0


@dataclass(frozen=True)
class BuriedMessage:
    """One dead letter as the broker has it; `routing_key` is the partition queue it died in."""

    message_id: str
    routing_key: str
    body: bytes
    reason: str


Keep = Callable[[BuriedMessage], Awaitable[None]]


async def consume_dead_letters(broker: Broker, keep: Keep) -> None:
    """Hand every dead letter to `keep` until cancelled; it is acknowledged once kept."""

    async def receive(message: AbstractIncomingMessage) -> None:
        while True:
            try:
                await keep(_buried(message))
                break
            except DependencyUnavailable as error:
                log.warning("dead letter is not kept yet", error=error)
                await asyncio.sleep(RETRY_S)
        await message.ack()

    async def begin() -> None:
        channel = await broker.channel(prefetch=PREFETCH)
        await (await channel.get_queue(CYCLES_DEAD, ensure=False)).consume(receive)

    await to_its_end(begin())
    await asyncio.Event().wait()


def _buried(message: AbstractIncomingMessage) -> BuriedMessage:
    headers: dict[str, Any] = dict(message.headers)
    deaths = headers.get("x-death") or [{}]
    reason = headers.get(REASON_HEADER) or f"not handled by any worker ({deaths[0].get('reason', 'unknown')})"
    message_id = message.message_id or hashlib.sha256(message.body).hexdigest()
    return BuriedMessage(message_id, message.routing_key or "", message.body, str(reason))
