"""Which nodes of a graph are computed for all cycles at once, and what they gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tradingflow.core.errors import TradingFlowError
from tradingflow.py_worker.backtest.candles import Floats, Times
from tradingflow.py_worker.backtest.world import World
from tradingflow.py_worker.engine.graph import Graph, GraphNode
from tradingflow.py_worker.kit import BatchRun, CandleQuery, Column
from tradingflow.py_worker.kit.batch import BatchInput, Flags, positions
from tradingflow.py_worker.kit.registry import AnyNode


@dataclass(frozen=True)
class Batched:
    """The cycles a node ran in, and its columns by output handle."""

    ran: Flags
    columns: Mapping[str, Column]


def batch_nodes(
    graph: Graph, types: Mapping[str, AnyNode], tape: WholeTape, times: Times, every_cycle: bool
) -> dict[int, Batched]:
    """By position in the graph. A node is batched when its type can and all its sources are."""
    found: dict[int, Batched] = {}
    for index in graph.order:
        node = graph.nodes[index]
        inputs = _inputs(graph, node, found, len(times))
        if inputs is None:
            continue
        ran = np.ones(len(times), bool)
        for given in inputs:
            ran &= given.column.taken
        columns = _columns(types[node.type], node, BatchRun(tape, ran, inputs, every_cycle))
        if columns is not None:
            found[index] = Batched(ran, columns)
    return found


def _inputs(graph: Graph, node: GraphNode, found: Mapping[int, Batched], cycles: int) -> Sequence[BatchInput] | None:
    """The columns that reach a node; None when it must run cycle by cycle."""
    plain = node.policy.join.needed is None and not node.literals and not node.many
    if not plain or any(edge.source not in found for edge in node.incoming):
        return None
    never = Column(np.zeros(cycles, bool), lambda _: None)
    return [
        BatchInput(edge.source_handle, edge.target_handle, found[edge.source].columns.get(edge.source_handle, never))
        for edge in node.incoming
    ]


def _columns(kind: AnyNode, node: GraphNode, run: BatchRun) -> Mapping[str, Column] | None:
    try:
        return kind.batch(run, kind.read_params(node.config))
    except TradingFlowError:
        return None  # cycle by cycle the same error is an outcome of each task


class WholeTape:
    """`BatchTape` of candles: they do not depend on what the flow trades."""

    def __init__(self, world: World, times: Times) -> None:
        self._world = world
        self._times = times

    def candle_windows(self, query: CandleQuery) -> tuple[Mapping[str, Floats], Sequence[int], Sequence[int]]:
        candles = self._world.tape.series(query.symbol, query.interval)
        ends = np.searchsorted(candles.close_time, self._times, "right").astype(np.int64)
        starts = np.maximum(0, ends - query.limit)
        columns = {"open_time": candles.open_time.astype(np.float64), **candles.columns}
        return columns, positions(starts), positions(ends)

    def pool_prices(self, chain_id: int, pool: str, base_token: str | None) -> Floats | None:
        return self._world.markets.closes(pool, base_token, self._times)

    def pool_tokens(self, pool: str, base_token: str | None) -> tuple[str, str]:
        return self._world.markets.pool_tokens(pool, base_token)
