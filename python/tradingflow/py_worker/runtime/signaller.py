"""Sends cycle messages to their partition, packed: what gathers while one publish awaits its confirm goes together."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from uuid import uuid4

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import get_logger
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.messages import pack, packable
from tradingflow.messaging.topology import CYCLES, partition_queue

log = get_logger(__name__)

RETRY_S = 0.2

Confirmed = Callable[[], None]


class Signaller:
    """At most one unconfirmed message a partition, so order within a partition is kept."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: defaultdict[int, deque[tuple[bytes, Confirmed]]] = defaultdict(deque)
        self._sending: dict[int, asyncio.Task[None]] = {}

    def send(self, partition: int, body: bytes, confirmed: Confirmed) -> None:
        """Queue one encoded message; `confirmed` is called when the broker has it."""
        self._waiting[partition].append((body, confirmed))
        if partition not in self._sending:
            self._sending[partition] = asyncio.create_task(self._drain(partition))

    def reset(self) -> None:
        """Forget everything unsent: the messages it came from will be delivered again."""
        for task in self._sending.values():
            task.cancel()
        self._sending.clear()
        self._waiting.clear()

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values())) + len(self._sending)

    async def _drain(self, partition: int) -> None:
        waiting = self._waiting[partition]
        try:
            while waiting:
                batch = [waiting.popleft() for _ in range(packable(body for body, _ in waiting))]
                await self._publish(partition, pack([body for body, _ in batch]))
                for _, confirmed in batch:
                    confirmed()
        finally:
            if self._sending.get(partition) is asyncio.current_task():
                del self._sending[partition]

    async def _publish(self, partition: int, body: bytes) -> None:
        message_id = uuid4().hex
        is_told = False
        while True:
            try:
                await self._broker.publish(CYCLES, partition_queue(partition), body, message_id=message_id)
                return
            except DependencyUnavailable as error:
                if not is_told:  # a line a partition, not one a try: a broker may be away for hours
                    log.warning("publish is retried", partition=partition, error=error)
                is_told = True
                await asyncio.sleep(RETRY_S)
