"""Cycles of a backtest: what runs, when, and what it sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.backtest.flows import FIVE_MINUTES, POOL, START_MS, cross_flow, edge, generated, node, trade_config
from tradingflow.core.errors import Refused
from tradingflow.py_worker.backtest.candles import Candles
from tradingflow.py_worker.backtest.run import backtest, flow_under_test
from tradingflow.py_worker.backtest.spec import BacktestSpec
from tradingflow.py_worker.engine.cycle import SKIPPED, CycleState, Outcome
from tradingflow.py_worker.kit import NOT_TAKEN, Json, Node, NodeContext, NodeInputs, NodeOutputs, NodeParams
from tradingflow.py_worker.kit.registry import AnyNode, node_types


class BranchParams(NodeParams):
    seed: int = 0


class Anything(NodeInputs):
    given: Json = None


class Branches(NodeOutputs):
    left: Json = NOT_TAKEN
    right: Json = NOT_TAKEN


def branches_of(seed: int, node_id: str, cycle: int) -> dict[str, Any]:
    """Which handles a branching node takes: as good as chance, and the same every time. Sometimes it fails."""
    choice = np.random.default_rng([seed, len(node_id), *node_id.encode(), cycle]).integers(0, 5)
    if choice == 4:
        raise Refused("chance", "this cycle it does not")
    return {name: cycle for place, name in enumerate(("left", "right")) if choice >> place & 1}


class BranchNode(Node[BranchParams, Anything, Branches]):
    type = "branch_node"
    title = description = category = "test"

    async def run(self, ctx: NodeContext, params: BranchParams, inputs: Anything) -> Branches:
        return Branches(**branches_of(params.seed, ctx.node_id, ctx.cycle))


TYPES: dict[str, AnyNode] = {**node_types(), "branch_node": BranchNode()}


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(2, 8))
    seed = draw(st.integers(0, 99))
    nodes, edges = [], []
    for place in range(count):
        sources = draw(st.lists(st.integers(0, place - 1), max_size=3, unique=True)) if place else []
        join = draw(st.sampled_from(["all", "any"])) if sources else "all"
        if join == "all":
            sources = sources[:1]
        on_error = draw(st.sampled_from(["fail", "continue", "route"]))
        nodes.append(node(f"n{place}", "branch_node", {"seed": seed}, join=join, on_error=on_error))
        for source in sources:
            handle = draw(st.sampled_from(["left", "right"]))
            edges.append(edge(f"n{source}", handle, f"n{place}", "given"))
    return {"nodes": nodes, "edges": edges}


@given(flow=graphs())
@settings(max_examples=40, deadline=None)
def test_what_runs_in_a_cycle_is_what_the_engine_releases(flow: dict[str, Any]) -> None:
    tested = flow_under_test(flow, types=TYPES)
    result = backtest(tested, [generated(6)], BacktestSpec())
    for cycle in range(6):
        expected = by_the_engine(tested.graph, cycle)
        for index, outcome in expected.items():
            decision = result.timeline.decisions[result.timeline.codes[index, cycle]]
            assert (decision.status, set(decision.handles)) == (outcome.status, set(outcome.outputs))


def by_the_engine(graph: Any, cycle: int) -> dict[int, Outcome]:
    state = CycleState(graph)
    ready = state.start().ready
    while ready:
        index = min(ready, key=graph.order.index)
        ready.remove(index)
        found = graph.nodes[index]
        try:
            outcome = Outcome("completed", branches_of(found.config["seed"], found.id, cycle))
        except Refused as error:
            outputs = {"error": error.as_body()} if found.policy.on_error == "route" else {}
            outcome = Outcome("failed", outputs)
        ready += state.finish(index, outcome).ready
    assert state.is_done
    return {index: state.outcomes.get(index, SKIPPED) for index in range(len(graph.nodes))}


def with_gap() -> Candles:
    """Twenty candles, then one hour without any, then twenty more."""
    whole = generated(52)
    kept = np.r_[0:20, 32:52]
    columns = {name: column[kept] for name, column in whole.columns.items()}
    return Candles.of("ETHBTC", whole.open_time[kept], columns, FIVE_MINUTES)


def always_buying(percent: str = "50") -> dict[str, Any]:
    return {
        "nodes": [
            node("price", "dex_price_node", {"chain_id": 1, "pool": POOL}),
            node("buy", "buy_node", trade_config(percent)),
        ],
        "edges": [edge("price", "price", "buy", "trigger")],
    }


def test_a_trade_placed_at_a_close_fills_at_the_next_open() -> None:
    candles = generated(10)
    result = backtest(flow_under_test(always_buying("100")), [candles], BacktestSpec())
    (record,) = result.trades
    assert record.decided_ms == record.filled_ms == START_MS + FIVE_MINUTES
    assert float(record.hops[0].bar.price) == candles.open[1]


def test_with_close_fills_a_trade_gets_the_price_it_was_decided_at() -> None:
    candles = generated(10)
    spec = BacktestSpec.model_validate({"fill_model": {"price": "close"}})
    (record,) = backtest(flow_under_test(always_buying("100")), [candles], spec).trades
    assert float(record.hops[0].bar.price) == candles.close[0]


def test_a_trade_waits_over_a_gap_and_fire_times_meanwhile_are_left_out() -> None:
    spec = BacktestSpec.model_validate({"cycle_interval": "5m"})
    result = backtest(flow_under_test(always_buying()), [with_gap()], spec)
    waited = next(record for record in result.trades if record.filled_ms > record.decided_ms)
    assert waited.filled_ms - waited.decided_ms == 12 * FIVE_MINUTES
    assert result.timeline.counts()["price"]["left_out"] == 11


def test_a_trade_decided_at_the_last_close_is_cut_off_and_not_counted() -> None:
    result = backtest(flow_under_test(always_buying()), [generated(5)], BacktestSpec())
    assert len(result.trades) == 4
    assert result.timeline.counts()["buy"] == {"completed": 4, "terminated": 1}
    assert result.world.ledger.refused == []


def test_three_runs_have_one_digest() -> None:
    candles = generated(500)
    assert len({backtest(flow_under_test(cross_flow()), [candles], BacktestSpec()).sha256() for _ in range(3)}) == 1


def test_a_part_that_does_not_exist_in_the_past_refuses_by_name() -> None:
    flow = {"nodes": [node("ask", "http_request_node", {"url": "https://example.com"})], "edges": []}
    result = backtest(flow_under_test(flow), [generated(3)], BacktestSpec())
    assert result.timeline.failed == {("ask", "not_available_here"): 3}
    assert "HTTP" in result.timeline.failures[0].detail


def test_news_of_the_progress_end_with_all_cycles() -> None:
    heard: list[tuple[int, int]] = []
    backtest(
        flow_under_test(always_buying("1")),
        [generated(5000)],
        BacktestSpec(),
        progress=lambda done, cycles: heard.append((done, cycles)),
    )
    assert heard[-1] == (5000, 5000)
    assert len(heard) > 2


def test_what_progress_raises_ends_the_backtest() -> None:
    def stop(done: int, cycles: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backtest(flow_under_test(cross_flow()), [generated(100)], BacktestSpec(), progress=stop)
