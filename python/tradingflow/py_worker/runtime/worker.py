"""One worker process's engine room: the parts that run cycles, started and stopped together."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.core.clock import Clock
from tradingflow.core.config import WorkerSettings
from tradingflow.core.errors import TooManyRequests
from tradingflow.core.logging import get_logger
from tradingflow.core.tasks import end_all
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.partitions import PartitionConsumer
from tradingflow.py_worker.engine.spec import NodeSpec
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.runtime.committer import Committer
from tradingflow.py_worker.runtime.conductor import Conductor
from tradingflow.py_worker.runtime.context import Surroundings
from tradingflow.py_worker.runtime.loader import CycleLoader
from tradingflow.py_worker.runtime.membership import Balancer, Membership
from tradingflow.py_worker.runtime.observers import Observers
from tradingflow.py_worker.runtime.poison import Poison
from tradingflow.py_worker.runtime.runner import NodeRunner
from tradingflow.py_worker.runtime.settlements import Settlements
from tradingflow.py_worker.runtime.signaller import Signaller
from tradingflow.py_worker.runtime.slots import FairSlots
from tradingflow.py_worker.runtime.store import CycleStore
from tradingflow.py_worker.runtime.sweep import Sweep
from tradingflow.tracing.traces import Traces

log = get_logger(__name__)

# Unacknowledged messages a partition; with packing each may carry 64 signals.
PREFETCH = 200
LOOK_AFTER_PERIOD_S = 0.25
# Beyond these the API takes no new work: what waits is a backlog of many seconds, held in memory.
MAX_WAITING_PER_SLOT = 10
# Of one user, who is refused while all others are not.
MAX_WAITING_OF_USER_PER_SLOT = 2
MAX_UNCOMMITTED = 50_000
RETRY_AFTER_S = 5
# On SIGTERM: what ends within FINISH_S ends here, the rest is handed over; then DRAIN_S for the last commits.
FINISH_S = 5.0
DRAIN_S = 10.0


def new_worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"


class Worker:
    """Runs cycles while `running()` is entered."""

    def __init__(
        self,
        settings: WorkerSettings,
        engine: AsyncEngine,
        redis: Redis,
        broker: Broker,
        clock: Clock,
        types: Mapping[str, AnyNode],
        specs: Mapping[str, NodeSpec],
        around: Surroundings,
        settlements: Settlements,
        traces: Traces,
    ) -> None:
        self.id = settings.worker_id or new_worker_id()
        self.store = CycleStore(engine, self.id)
        self.slots = FairSlots(settings.max_nodes_in_flight)
        self.membership = Membership(redis, self.id, settings.cycle_partitions, self._load)
        self.committer = Committer(self.store)
        self.signaller = Signaller(broker)
        self.observers = Observers(broker)
        self.loader = CycleLoader(self.store, specs)
        self.conductor = Conductor(
            partitions=settings.cycle_partitions,
            clock=clock,
            loader=self.loader,
            runner=NodeRunner(types, around, self.store),
            committer=self.committer,
            signaller=self.signaller,
            observers=self.observers,
            settlements=settlements,
            poison=Poison(broker),
            slots=self.slots,
            traces=traces,
        )
        self.consumer = PartitionConsumer(
            settings.rabbitmq_dsn,
            name=f"py_worker.{self.id}",
            partitions=settings.cycle_partitions,
            prefetch=PREFETCH,
            handle=self.conductor.receive,
            on_lost=self.conductor.forget,
            on_left=self.conductor.leave,
            is_mine=self.membership.owns,
        )
        self.balancer = Balancer(self.membership, self.consumer, settings.cycle_partitions)
        self.sweep = Sweep(self.store, self.conductor, broker, clock, settings.cycle_partitions, self.membership.owns)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything up; on leaving, what is unfinished is handed back to RabbitMQ and goes on elsewhere."""
        background = [
            asyncio.create_task(self.committer.run(), name="committer"),
            asyncio.create_task(self.loader.run(self.conductor.loaded), name="loader"),
            asyncio.create_task(self.observers.run(), name="observers"),
            asyncio.create_task(self.sweep.run(), name="sweep"),
            asyncio.create_task(self._look_after_running(), name="look after running"),
        ]
        await self.membership.join()
        consuming = asyncio.create_task(self.consumer.run(), name="partition consumer")
        balancing = asyncio.create_task(self.balancer.run(), name="balancer")
        for task in (*background, consuming, balancing):
            task.add_done_callback(end_process_when_broken)
        try:
            yield
        finally:
            await end_all([balancing])
            await self.membership.leave()
            if not await self.consumer.drain(FINISH_S):
                log.info("handed over what was still running", nodes=self.slots.taken)
            await end_all([consuming])
            try:
                async with asyncio.timeout(DRAIN_S):
                    await self.committer.drained()
            except TimeoutError:
                log.warning("left without committing everything; it will run again", records=len(self.committer))
            await end_all(background)
            await self.store.close()

    def _load(self) -> dict[str, int]:
        return {
            "cycles_in_memory": self.conductor.cycles,
            "nodes_running": self.slots.taken,
            "nodes_waiting": self.slots.waiting,
            "slots": self.slots.limit,
        }

    def require_room(self, user: UUID) -> None:
        """Raises TooManyRequests while this worker has far more in hand, of all users or this one, than it can run."""
        mine, all_ = self.slots.waiting_of(user), self.slots.waiting
        if mine > MAX_WAITING_OF_USER_PER_SLOT * self.slots.limit:
            what = f"{mine} of your node tasks wait for a slot; try again shortly"
            raise TooManyRequests("too_much_waiting", what, RETRY_AFTER_S)
        if all_ > MAX_WAITING_PER_SLOT * self.slots.limit or len(self.committer) > MAX_UNCOMMITTED:
            what = f"{all_} node tasks wait for a slot; try again shortly"
            raise TooManyRequests("worker_saturated", what, RETRY_AFTER_S)

    async def _look_after_running(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AFTER_PERIOD_S)
            self.conductor.look_after_running()


def end_process_when_broken(task: asyncio.Task[None]) -> None:
    """A part that ends by itself is a defect; a worker without it must not look alive."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a part of the worker broke; the process ends", part=task.get_name(), exc_info=error)
        os._exit(70)
