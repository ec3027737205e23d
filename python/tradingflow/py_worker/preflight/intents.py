"""What a flow's trade nodes would ask for, found by running them against a gateway that only listens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from tradingflow.core.errors import DependencyUnavailable, TradingFlowError
from tradingflow.py_worker.engine.graph import Graph, GraphNode
from tradingflow.py_worker.kit import MarketData, NodeContext, SwapIntent, TradeReceipt
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.kit.sizing import TradeParams
from tradingflow.py_worker.preflight.judgement import Finding, PlannedTrade

# Stands for an amount that another node will bring: any amount leads to the same route.
SOME_AMOUNT = Decimal(1)


class _Heard(Exception):
    def __init__(self, intent: SwapIntent) -> None:
        self.intent = intent


class _Listening:
    """A `TradeGateway` that ends the node with what it asked for."""

    async def swap(self, intent: SwapIntent) -> TradeReceipt:
        raise _Heard(intent)

    async def resume(self) -> TradeReceipt | None:
        return None


class _Quiet:
    def info(self, message: str, **details: Any) -> None: ...

    def warning(self, message: str, **details: Any) -> None: ...

    def error(self, message: str, **details: Any) -> None: ...


@dataclass(frozen=True)
class _Context:
    """As much of a `NodeContext` as a trade node needs up to its trade."""

    markets: MarketData
    trades: _Listening
    log: _Quiet


@dataclass(frozen=True)
class Heard:
    """One trade node's intent, or why there is none."""

    node_id: str
    intent: SwapIntent | None
    trade: PlannedTrade | None
    findings: tuple[Finding, ...]


def trade_nodes(graph: Graph, types: Mapping[str, AnyNode]) -> list[GraphNode]:
    return [node for node in graph.nodes if issubclass(types[node.type].Params, TradeParams)]


async def listen(node: GraphNode, type_: AnyNode, markets: MarketData) -> Heard:
    """Raises DependencyUnavailable when the chain cannot be asked."""
    is_brought = any(edge.target_handle == "amount" for edge in node.incoming)
    inputs = dict(node.literals) | ({"amount": str(SOME_AMOUNT)} if is_brought else {})
    context = cast("NodeContext", _Context(markets, _Listening(), _Quiet()))
    try:
        await type_.execute(context, node.config, inputs)
    except _Heard as heard:
        intent = heard.intent
        amount = None if is_brought else intent.amount_in
        trade = PlannedTrade(node.id, intent.chain_id, intent.vault, intent.token_in, intent.token_out, amount)
        return Heard(node.id, intent, trade, _unconditional(node))
    except DependencyUnavailable:
        raise
    except TradingFlowError as error:
        return _silent(node, Finding(error.code, error.detail, True, node.id))
    nothing = "the vault holds none of the token a share of which would be sold"
    return _silent(node, Finding("nothing_to_sell", nothing, False, node.id))


def _silent(node: GraphNode, finding: Finding) -> Heard:
    return Heard(node.id, None, None, (finding, *_unconditional(node)))


def _unconditional(node: GraphNode) -> tuple[Finding, ...]:
    if node.incoming:
        return ()
    return (Finding("trades_every_cycle", "no edge leads here: it trades in every cycle", False, node.id),)
