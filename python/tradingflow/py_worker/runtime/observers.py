"""Publishes every signal on `signals_exchange` for whoever watches. Best effort: the flow does not wait for observers.

Nobody watches most signals, and a publish costs more than a hop. So each edge is asked about: a signal the broker
returns as unroutable silences its edge for ASK_AGAIN_S.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from uuid import UUID, uuid4

import msgspec

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.ids import node_task_id
from tradingflow.core.logging import get_logger
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.topology import SIGNALS, signal_routing_key
from tradingflow.py_worker.engine.cycle import Outcome
from tradingflow.py_worker.engine.graph import Edge, GraphNode
from tradingflow.py_worker.runtime.live import LiveCycle

log = get_logger(__name__)

ASK_AGAIN_S = 1.0
# Observers that are slower than the flow lose the oldest signals rather than hold it up or fill the memory.
MAX_WAITING = 10_000
SENDERS = 8
MAX_SILENCED = 100_000

_encode = msgspec.json.Encoder().encode
_EdgeKey = tuple[UUID, int, int, str, int, str]


class Observers:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: deque[tuple[_EdgeKey, str, bytes]] = deque(maxlen=MAX_WAITING)
        self._silent_until: dict[_EdgeKey, float] = {}
        self._wake = asyncio.Event()

    def tell(self, live: LiveCycle, node: GraphNode, outcome: Outcome) -> None:
        now = time.monotonic()
        for edge in node.outgoing:
            if edge.source_handle not in outcome.outputs:
                continue
            key = (live.key[0], live.version, edge.source, edge.source_handle, edge.target, edge.target_handle)
            if self._silent_until.get(key, 0.0) > now:
                continue
            self._silent_until[key] = now + ASK_AGAIN_S
            self._waiting.append((key, _routing_key(live, node, edge), _body(live, node, edge, outcome)))
            self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(SENDERS):
                group.create_task(self._send())

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            while self._waiting:
                await self._publish(*self._waiting.popleft())
            self._wake.clear()

    async def _publish(self, key: _EdgeKey, routing_key: str, body: bytes) -> None:
        try:
            await self._broker.publish(SIGNALS, routing_key, body, message_id=uuid4().hex)
            self._silent_until.pop(key, None)
        except DependencyUnavailable:
            self._forget_old()
        except Exception:  # best effort: whatever stands in the way of telling must not end the worker
            log.exception("a signal could not be told to observers", routing_key=routing_key)
            self._forget_old()

    def _forget_old(self) -> None:
        if len(self._silent_until) > MAX_SILENCED:
            now = time.monotonic()
            self._silent_until = {key: until for key, until in self._silent_until.items() if until > now}


def _routing_key(live: LiveCycle, node: GraphNode, edge: Edge) -> str:
    target = live.graph.nodes[edge.target]
    return signal_routing_key(
        live.flow_id, node.component, live.key[1], (node.id, edge.source_handle), (target.id, edge.target_handle)
    )


def _body(live: LiveCycle, node: GraphNode, edge: Edge, outcome: Outcome) -> bytes:
    target = live.graph.nodes[edge.target]
    return _encode(
        {
            "flow_id": live.flow_id,
            "component_id": node.component,
            "cycle": live.key[1],
            "version": live.version,
            "node_task_id": node_task_id(live.flow_id, live.key[1], node.id),
            "source_node": node.id,
            "source_handle": edge.source_handle,
            "target_node": target.id,
            "target_handle": edge.target_handle,
            "value": outcome.outputs[edge.source_handle],
            "finished_at": outcome.finished_at,
        }
    )
