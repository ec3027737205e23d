"""Nodes computed for all cycles at once give what they give cycle by cycle, to the last bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.backtest.flows import POOL, VAULT, cross_flow, edge, generated, node, trade_config
from tradingflow.py_worker.backtest.result import BacktestResult
from tradingflow.py_worker.backtest.run import backtest, flow_under_test
from tradingflow.py_worker.backtest.spec import BacktestSpec
from tradingflow.py_worker.kit.comparisons import decide
from tradingflow.py_worker.kit.indicators import calculation, compute, indicator_info, indicator_names
from tradingflow.py_worker.nodes.condition_node import evaluate

INDICATORS = ["SMA", "EMA", "RSI", "MACD", "BBANDS", "ATR", "STOCH", "OBV", "MOM", "CCI"]
LINES = {"MACD": "macdhist", "BBANDS": "upperband", "STOCH": "slowk"}


def both_ways(flow: dict[str, Any], spec: BacktestSpec, count: int, seed: int) -> tuple[BacktestResult, BacktestResult]:
    candles = generated(count, seed)
    fast, slow = (backtest(flow_under_test(flow), [candles], spec, batch=batch) for batch in (True, False))
    return fast, slow


def assert_same(fast: BacktestResult, slow: BacktestResult) -> None:
    assert fast.document() == slow.document()
    assert fast.timeline.canonical()[0] == slow.timeline.canonical()[0]
    assert (fast.timeline.canonical()[1] == slow.timeline.canonical()[1]).all()
    assert fast.sha256() == slow.sha256()


@st.composite
def flows(draw: st.DrawFn) -> dict[str, Any]:
    """Prices, two indicators, a condition, trades and what hangs on them, in many mixtures."""
    from_pool = draw(st.booleans())
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    if from_pool:
        nodes.append(node("price", "dex_price_node", {"chain_id": 1, "pool": POOL}))
    else:
        interval = draw(st.sampled_from(["5m", "15m", "1h"]))
        limit = draw(st.integers(2, 60))
        nodes.append(node("price", "binance_price_node", {"symbol": "ETH/BTC", "interval": interval, "limit": limit}))
    names = []
    for place in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["SMA", "EMA", "RSI", "MOM"] if from_pool else INDICATORS))
        options = {"timeperiod": draw(st.integers(2, 20))} if "timeperiod" in _options(kind) else {}
        config = {"indicator": kind, "params": options, "remember": draw(st.integers(2, 40))}
        name = f"line{place}"
        nodes.append(node(name, "indicator_node", config))
        edges.append(edge("price", "price" if from_pool else "price_data", name, "value" if from_pool else "series"))
        edges.append(edge(name, "latest", "decide", name))
        names.append(f"{name}.{LINES[kind]}" if kind in LINES else name)
    left = draw(st.sampled_from(names))
    right = draw(st.sampled_from([*names, "0.1", "50.0", "0"]))
    operator = draw(st.sampled_from(["<", "<=", ">", ">=", "!="]))
    more = draw(st.sampled_from(["", f" && {left} > 0.0", f" || {left} < 30.0"]))
    nodes.append(node("decide", "condition_node", {"expression": f"{left} {operator} {right}{more}"}))
    percent = draw(st.sampled_from(["100", "50", "7.5"]))
    trading = trade_config(percent, amount_unit=draw(st.sampled_from(["percent", "percent", "human"])))
    nodes += [node("buy", "buy_node", trading), node("sell", "sell_node", trading)]
    edges += [edge("decide", "true", "buy", "trigger"), edge("decide", "false", "sell", "trigger")]
    if draw(st.booleans()):
        nodes.append(node("held", "vault_node", {"chain_id": 1, "vault": VAULT, "pools": [POOL]}, join="any"))
        edges += [edge("buy", "trade_receipt", "held", "trigger"), edge("sell", "trade_receipt", "held", "trigger")]
    return {"nodes": nodes, "edges": edges}


def _options(kind: str) -> set[str]:
    return set(indicator_info(kind)["parameters"])


@given(
    flow=flows(),
    price=st.sampled_from(["next_open", "close"]),
    interval=st.sampled_from([None, "5m", "7m", "2m", "1h"]),
    count=st.integers(3, 120),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_batches_equal_the_run_cycle_by_cycle(
    flow: dict[str, Any], price: str, interval: str | None, count: int, seed: int
) -> None:
    spec = BacktestSpec.model_validate({"fill_model": {"price": price}, "cycle_interval": interval})
    assert_same(*both_ways(flow, spec, count, seed))


@pytest.mark.parametrize("batch", [True, False])
def test_in_a_backtest_closed_candles_only_changes_nothing(batch: bool) -> None:
    flow, candles, spec = cross_flow(3, 5, 9), [generated(80, 3)], BacktestSpec()
    closed = json.loads(json.dumps(flow))
    closed["nodes"][0]["config"]["closed_candles_only"] = True
    found = [backtest(flow_under_test(one), candles, spec, batch=batch) for one in (flow, closed)]
    assert found[0].document()["trades"] == found[1].document()["trades"]
    assert [any("closed_candles_only" in warning for warning in one.warnings) for one in found] == [True, False]


def test_the_values_that_travel_are_the_same_json() -> None:
    fast, slow = both_ways(cross_flow(3, 5, 9), BacktestSpec(), 80, 3)
    reasons = [json.dumps(fast.trade(record)["reason"]) for record in fast.trades]
    assert reasons
    assert reasons == [json.dumps(slow.trade(record)["reason"]) for record in slow.trades]


@pytest.mark.parametrize("name", sorted(indicator_names()))
def test_an_indicator_without_look_ups_computes_the_same(name: str) -> None:
    candles = generated(150, 5)
    columns = {**candles.columns, "periods": np.full(150, 5.0)}
    calculated = calculation(name, {})
    expected = compute(name, {}, columns)
    lines = calculated.lines(*[columns[column] for column in calculated.columns])
    assert tuple(expected) == calculated.output_names
    for line, values in zip(lines, expected.values(), strict=True):
        np.testing.assert_array_equal(np.asarray(line, float), np.asarray(values, float))


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0, 2.5, 30.0])
TERMS = st.sampled_from(["a", "b", "30", "30.0", "-1.5", "0", "0.1"])
OPERATORS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])


@st.composite
def conditions(draw: st.DrawFn) -> str:
    def compared() -> str:
        return f"{draw(TERMS)} {draw(OPERATORS)} {draw(TERMS)}"

    words = [compared()]
    for _ in range(draw(st.integers(0, 3))):
        words += [draw(st.sampled_from(["&&", "||"])), compared()]
    return " ".join(words)


@given(expression=conditions(), a=NUMBERS, b=NUMBERS)
def test_plain_comparisons_decide_as_cel_does(expression: str, a: float, b: float) -> None:
    decided = decide(expression, {"a": np.array([a]), "b": np.array([b])})
    if decided is not None:
        assert bool(decided[0]) == evaluate(expression, {"a": a, "b": b})


@pytest.mark.parametrize("expression", ["a + 1.0 > b", "!(a > b)", "(a > b)", "size(a) > 1", "a > c", "'x' == a", "a"])
def test_what_is_more_than_comparisons_is_left_to_cel(expression: str) -> None:
    assert decide(expression, {"a": np.array([1.0]), "b": np.array([2.0])}) is None
