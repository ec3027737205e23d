"""A cycle in the memory of the worker that is its partition's active consumer. Everything here can be had again from
the database; only `deliveries` matter beyond it, since they are what brings the cycle back after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tradingflow.core.ids import cycle_partition
from tradingflow.messaging.partitions import Delivery
from tradingflow.py_worker.engine.cycle import CycleState, Outcome
from tradingflow.py_worker.engine.graph import Graph
from tradingflow.py_worker.kit import Trigger
from tradingflow.py_worker.runtime.records import StoredCycle


def _nothing() -> None:
    return None


@dataclass(slots=True, eq=False)
class NodeRun:
    """A node task between released and ended. Its deliveries are acknowledged when what it led to is durable."""

    index: int
    deliveries: list[Delivery]
    task: asyncio.Task[None] | None = None
    started_at: datetime | None = None
    is_shown: bool = False
    step_aside: Callable[[], None] = _nothing
    """Give back the slot and the messages: the node waits long, and what it rests on is durable."""


class LiveCycle:
    __slots__ = (
        "_durable",
        "_durable_waiters",
        "dropped",
        "ended",
        "flow_id",
        "graph",
        "held",
        "is_ending",
        "key",
        "mode",
        "partition",
        "paused",
        "paused_nodes",
        "running",
        "state",
        "trigger",
        "user_id",
        "version",
    )

    def __init__(self, stored: StoredCycle, graph: Graph, partitions: int) -> None:
        self.key = stored.key
        self.flow_id = stored.flow_id
        self.user_id = stored.user_id
        self.mode = stored.mode
        self.version = stored.version
        self.graph = graph
        self.partition = cycle_partition(*stored.key, partitions)
        self.state = CycleState(graph)
        self.running: dict[int, NodeRun] = {}
        self.ended: dict[int, Outcome] = {}
        """Ended here, with signals on their way to us: followers start when the signals arrive."""
        self.held: list[int] = []
        """Released while paused."""
        self.paused = False
        self.paused_nodes = stored.paused_nodes
        self.trigger = Trigger(stored.trigger, stored.trigger_data)
        self.dropped = False
        self.is_ending = False
        self._durable = {graph.index[name] for name in stored.outcomes if name in graph.index}
        self._durable_waiters: dict[int, list[asyncio.Future[None]]] = {}

    def told_failures(self) -> str:
        """The nodes that failed or were terminated, with their codes, for the flow's log."""
        bad = ((i, o) for i, o in sorted(self.state.outcomes.items()) if o.status in ("failed", "terminated"))
        return ", ".join(f"{self.graph.nodes[i].id} ({(o.error or {}).get('error', o.status)})" for i, o in bad)

    def mark_durable(self, index: int) -> None:
        self._durable.add(index)
        for waiter in self._durable_waiters.pop(index, ()):
            if not waiter.done():
                waiter.set_result(None)

    def release_when_durable(self, index: int, delivery: Delivery) -> None:
        """Hold the delivery until the ending of node `index` is committed."""
        if index not in self._durable:
            delivery.hold()
            self._wait_for(index).add_done_callback(lambda _: delivery.release())

    def are_inputs_durable(self, index: int) -> bool:
        return all(
            edge.source in self._durable
            for edge in self.graph.nodes[index].incoming
            if edge.source in self.state.outcomes
        )

    async def inputs_durable(self, index: int) -> None:
        """Until everything node `index` rests on is committed. Commits are in order, so its sources stand for all."""
        for edge in self.graph.nodes[index].incoming:
            if edge.source in self.state.outcomes and edge.source not in self._durable:
                await self._wait_for(edge.source)

    def drop(self) -> list[Delivery]:
        """Stop everything; returns the deliveries of what was running, still held."""
        self.dropped = True
        deliveries = [delivery for run in self.running.values() for delivery in run.deliveries]
        for run in self.running.values():
            if run.task is not None:
                run.task.cancel()
        self.running.clear()
        for waiters in self._durable_waiters.values():
            for waiter in waiters:
                waiter.cancel()
        self._durable_waiters.clear()
        return deliveries

    def _wait_for(self, index: int) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._durable_waiters.setdefault(index, []).append(waiter)
        return waiter


def release_all(deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        delivery.release()
