"""A flow over the recorded history of pools, block by block: the nodes' own code, exact pools, a simulated vault.

A cycle sees the state after its block, and its trades are the next to be mined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import msgspec

from tradingflow.core.clock import SimulatedClock
from tradingflow.py_worker.engine.cycle import CycleState, Outcome, inputs_of
from tradingflow.py_worker.engine.graph import Graph, GraphNode
from tradingflow.py_worker.engine.spec import ERROR_HANDLE
from tradingflow.py_worker.kit import Incoming, NodeContext
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.kit.testing import MemoryContext, MemoryState
from tradingflow.py_worker.runtime.runner import NodeFailure, encoded_json, execute_node
from tradingflow.py_worker.simulation.gateway import NodeIdentity, SimulatedTrades
from tradingflow.py_worker.simulation.pool_history import PoolBlock
from tradingflow.py_worker.simulation.pool_markets import PoolMarkets
from tradingflow.py_worker.simulation.pool_replay import PoolReplay
from tradingflow.py_worker.simulation.venue import PoolVenue


@dataclass
class PoolRun:
    """One flow version over a history. `flow_pk` and `version` make its trade ids, as they do live."""

    graph: Graph
    types: Mapping[str, AnyNode]
    identity: NodeIdentity
    flow_id: str
    clock: SimulatedClock
    markets: PoolMarkets
    _states: dict[str, MemoryState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chain = self.markets.executor.chains[self.markets.chain_id]
        self._replay = PoolReplay(chain, cast("PoolVenue", chain.venue), self.markets.keys)

    def follow(self, block: PoolBlock) -> None:
        """Let a block happen: others' swaps are made again, their liquidity is moved as it was."""
        self._replay.follow(block)
        self.clock.advance_to(datetime.fromtimestamp(block.timestamp, UTC))

    async def cycle(self, number: int) -> dict[str, Outcome]:
        """Run one cycle on the state as it stands; the outcomes by node."""
        state = CycleState(self.graph)
        waiting = list(state.start().ready)
        while waiting:
            index = waiting.pop(0)
            waiting += state.finish(index, await self._node(number, self.graph.nodes[index], state)).ready
        return {self.graph.nodes[index].id: outcome for index, outcome in state.outcomes.items()}

    async def _node(self, number: int, node: GraphNode, state: CycleState) -> Outcome:
        arrivals = state.arrivals(node.index)
        names = [self.graph.nodes[arrival.source].id for arrival in arrivals]
        who = NodeIdentity(self.identity.flow_pk, self.identity.version, number, node.id)
        context = MemoryContext(
            self.flow_id,
            number,
            node.id,
            mode="backtest",
            incoming=[
                Incoming(name, arrival.source_handle, arrival.target_handle, arrival.value)
                for name, arrival in zip(names, arrivals, strict=True)
            ],
            clock=self.clock,
            state=self._states.setdefault(node.id, MemoryState()),
            markets=self.markets,
            trades=SimulatedTrades(self.markets.executor, who, self.markets),
        )
        try:
            inputs = inputs_of(node, arrivals)
            signals = await execute_node(self.types[node.type], cast("NodeContext", context), node, inputs)
            return Outcome("completed", msgspec.json.decode(encoded_json(signals)))
        except NodeFailure as failure:
            error = {"error": failure.code, "detail": failure.detail}
            return Outcome("failed", {ERROR_HANDLE: error} if node.policy.on_error == "route" else {}, error)
