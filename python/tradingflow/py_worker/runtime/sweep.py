"""Finds open cycles nobody works on and announces them again: the net under a broker that lost its data.

RabbitMQ redelivers what a dead worker held, so in ordinary life the sweep finds nothing to do. An announcement too
many is harmless: whoever has the cycle in memory lets it pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from tradingflow.core.clock import Clock
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.ids import cycle_partition
from tradingflow.core.logging import get_logger
from tradingflow.messaging.broker import Broker
from tradingflow.py_worker.cycle_starter import start_message
from tradingflow.py_worker.runtime.conductor import Conductor
from tradingflow.py_worker.runtime.records import CycleKey, OpenCycle
from tradingflow.py_worker.runtime.store import CycleStore

log = get_logger(__name__)

PERIOD_S = 2.0
# A cycle this young may still be on its way through outbox and queue.
OLD_AFTER = timedelta(seconds=5)
ANNOUNCE_AGAIN_AFTER = timedelta(seconds=10)
# Any number of cycles may be open for long, held at a node that is paused, and hide none that started after them.
PAGE = 10_000


class Sweep:
    """`is_mine` says whether a partition is this worker's to watch."""

    def __init__(
        self,
        store: CycleStore,
        conductor: Conductor,
        broker: Broker,
        clock: Clock,
        partitions: int,
        is_mine: Callable[[int], bool],
    ) -> None:
        self._store = store
        self._conductor = conductor
        self._broker = broker
        self._clock = clock
        self._partitions = partitions
        self._is_mine = is_mine
        self._announced: dict[CycleKey, float] = {}

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.sweep()
            except DependencyUnavailable as error:
                log.warning("sweep interrupted", error=error)

    async def sweep(self) -> int:
        """Announce what is idle; returns how many cycles that were."""
        now = self._clock.now()
        recently = (now - ANNOUNCE_AGAIN_AFTER).timestamp()
        self._announced = {key: at for key, at in self._announced.items() if at > recently}
        page = await self._store.stale_cycles(now - OLD_AFTER, PAGE)
        announced = await self._announce(page, now)
        while len(page) == PAGE:
            page = await self._store.stale_cycles(now - OLD_AFTER, PAGE, page[-1])
            announced += await self._announce(page, now)
        if announced:
            log.info("announced idle cycles again", cycles=announced)
        return announced

    async def _announce(self, page: Sequence[OpenCycle], now: datetime) -> int:
        idle = [cycle.key for cycle in page if cycle.key not in self._announced and self._is_idle(cycle.key)]
        for key in idle:
            message = start_message(*key, self._partitions)
            await self._broker.publish(
                message.exchange, message.routing_key, message.body, message_id=message.message_id
            )
            self._announced[key] = now.timestamp()
        return len(idle)

    def _is_idle(self, key: CycleKey) -> bool:
        return not self._conductor.knows(key) and self._is_mine(cycle_partition(*key, self._partitions))
