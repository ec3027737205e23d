"""A message that cannot be handled is tried again a few times, then buried where people can see and replay it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import get_logger
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.dead_letters import REASON_HEADER
from tradingflow.messaging.messages import Message, encode
from tradingflow.messaging.partitions import Delivery
from tradingflow.messaging.topology import CYCLES_DEAD, DELIVERY_TRIES, partition_queue

log = get_logger(__name__)


MAX_REASON_CHARS = 500
PAUSE_S = 0.1
RETRY_S = 1.0


class Poison:
    """Tries are counted here; the broker's own limit is for messages that take the whole process down."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._tasks: set[asyncio.Task[None]] = set()

    def retry_or_bury(
        self, delivery: Delivery, message: Message, error: Exception, tries: int, again: Callable[[], None]
    ) -> None:
        """Call `again` after a pause, or bury the message when it had its DELIVERY_TRIES. Takes over one hold."""
        if tries >= DELIVERY_TRIES:
            self.bury(delivery, encode(message), f"{type(error).__name__}: {error}")
        else:
            asyncio.get_running_loop().call_later(PAUSE_S * tries, again)

    def bury(self, delivery: Delivery, body: bytes, reason: str) -> None:
        """Move one message to the dead letters; its hold on the delivery is released when it is safe there."""
        task = asyncio.create_task(self._move(delivery, body, reason))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _move(self, delivery: Delivery, body: bytes, reason: str) -> None:
        log.error("message is dead", message_id=delivery.message_id, reason=reason)
        dead_id = f"{delivery.message_id}:{hashlib.sha256(body).hexdigest()[:16]}"
        while True:
            try:
                await self._broker.publish(
                    CYCLES_DEAD,
                    partition_queue(delivery.partition),
                    body,
                    message_id=dead_id,
                    headers={REASON_HEADER: reason[:MAX_REASON_CHARS]},
                )
                break
            except DependencyUnavailable:
                await asyncio.sleep(RETRY_S)
        delivery.release()
