"""Publishes every signal on `signals_exchange` for whoever watches. Best effort: the flow does not wait for observers.

Nobody watches most signals, and a publish costs more than a hop. So each edge is asked about: a signal the broker
returns as unroutable silences its edge for ASK_AGAIN_S.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.ids import node_task_id
from tradingflow.core.logging import get_logger
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.topology import SIGNALS, signal_routing_key
from tradingflow.py_worker.engine.graph import Edge, GraphNode
from tradingflow.py_worker.runtime.live import LiveCycle
from tradingflow.py_worker.runtime.runner import Ended

log = get_logger(__name__)

ASK_AGAIN_S = 1.0
# Observers that are slower than the flow lose the oldest signals rather than hold it up or fill the memory.
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 32_000_000
SENDERS = 8
MAX_SILENCED = 100_000

_encode = msgspec.json.Encoder().encode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_EdgeKey = tuple[UUID, int, int, str, int, str]


@dataclass(slots=True)
class _Task:
    """What the signals of one ended node task share: in memory once, however many edges it has."""

    flow_id: str
    component: int
    cycle: int
    version: int
    node_id: str
    finished_at: datetime | None
    outputs: bytes
    """JSON, by handle."""
    waiting: int = 0
    """How many of its signals wait."""
    _parts: Mapping[str, msgspec.Raw] | None = None

    def value(self, handle: str) -> msgspec.Raw:
        """One output, still encoded."""
        if self._parts is None:
            self._parts = _decode_parts(self.outputs)
        return self._parts[handle]


class _Signal(NamedTuple):
    key: _EdgeKey
    task: _Task
    edge: Edge
    target: str

    def routing_key(self) -> str:
        task, edge = self.task, self.edge
        source, target = (task.node_id, edge.source_handle), (self.target, edge.target_handle)
        return signal_routing_key(task.flow_id, task.component, task.cycle, source, target)

    def body(self) -> bytes:
        task, edge = self.task, self.edge
        return _encode(
            {
                "flow_id": task.flow_id,
                "component_id": task.component,
                "cycle": task.cycle,
                "version": task.version,
                "node_task_id": node_task_id(task.flow_id, task.cycle, task.node_id),
                "source_node": task.node_id,
                "source_handle": edge.source_handle,
                "target_node": self.target,
                "target_handle": edge.target_handle,
                "value": task.value(edge.source_handle),
                "finished_at": task.finished_at,
            }
        )


class Observers:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: deque[_Signal] = deque()
        self._waiting_bytes = 0
        self._silent_until: dict[_EdgeKey, float] = {}
        self._wake = asyncio.Event()

    def tell(self, live: LiveCycle, node: GraphNode, ended: Ended) -> None:
        now = time.monotonic()
        asked = []
        for edge in node.outgoing:
            key = (live.key[0], live.version, edge.source, edge.source_handle, edge.target, edge.target_handle)
            if edge.source_handle in ended.outcome.outputs and self._silent_until.get(key, 0.0) <= now:
                self._silent_until[key] = now + ASK_AGAIN_S
                asked.append((key, edge))
        if not asked:
            return
        task = _Task(
            live.flow_id,
            node.component,
            live.key[1],
            live.version,
            node.id,
            ended.outcome.finished_at,
            ended.outputs,
        )
        for key, edge in asked:
            self._put(_Signal(key, task, edge, live.graph.nodes[edge.target].id))
        self._wake.set()

    def _put(self, signal: _Signal) -> None:
        if signal.task.waiting == 0:
            self._waiting_bytes += len(signal.task.outputs)
        signal.task.waiting += 1
        self._waiting.append(signal)
        while len(self._waiting) > MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES:
            self._take()

    def _take(self) -> _Signal:
        signal = self._waiting.popleft()
        signal.task.waiting -= 1
        if signal.task.waiting == 0:
            self._waiting_bytes -= len(signal.task.outputs)
        return signal

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._send())

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            while self._waiting:
                await self._publish(self._take())
            self._wake.clear()

    async def _publish(self, signal: _Signal) -> None:
        try:
            await self._broker.publish(SIGNALS, signal.routing_key(), signal.body(), message_id=uuid4().hex)
            self._silent_until.pop(signal.key, None)
        except DependencyUnavailable:
            self._forget_old()
        except Exception:  # best effort: whatever stands in the way of telling must not end the worker
            log.exception("a signal could not be told to observers", edge=signal.key)
            self._forget_old()

    def _forget_old(self) -> None:
        if len(self._silent_until) > MAX_SILENCED:
            now = time.monotonic()
            self._silent_until = {key: until for key, until in self._silent_until.items() if until > now}
