import time
from typing import Any

import pytest

from tradingflow.py_worker.kit import Incoming, NodeFailed
from tradingflow.py_worker.kit.testing import MemoryContext
from tradingflow.py_worker.nodes import condition_node
from tradingflow.py_worker.nodes.condition_node import ConditionNode, evaluate

NODE = ConditionNode()


@pytest.mark.parametrize(
    ("expression", "inputs", "taken"),
    [
        ("price < 2000.0", {"price": "1999.999999999999"}, "true"),
        ("price < 2000", {"price": "2000"}, "false"),
        ("latest.macd > latest.macdsignal", {"latest": {"macd": 1.5, "macdsignal": 1.4}}, "true"),
        ("symbol == 'ETH' && rsi >= 70.0", {"symbol": "ETH", "rsi": 70}, "true"),
        ("values.exists(v, v > 2.0)", {"values": ["1", "3"]}, "true"),
        ("size(values) == 0", {"values": []}, "true"),
    ],
)
async def test_only_the_branch_the_expression_decides_is_taken(
    ctx: MemoryContext, expression: str, inputs: dict[str, Any], taken: str
) -> None:
    outputs = await NODE.execute(ctx, {"expression": expression}, inputs)
    assert outputs.signals() == {taken: inputs}
    assert outputs.not_taken() == {"true", "false"} - {taken}


async def test_a_variable_may_be_named_by_the_handle_its_edge_comes_from(ctx: MemoryContext) -> None:
    ctx.incoming = [Incoming("dex_price_node_1", "price", "input", "5")]
    outputs = await NODE.execute(ctx, {"expression": "price == input"}, {"input": "5"})
    assert "true" in outputs.signals()


async def test_what_is_passed_on_is_what_came_in_not_the_doubles_computed_with(ctx: MemoryContext) -> None:
    inputs = {"amount": "123456789012345678901"}
    outputs = await NODE.execute(ctx, {"expression": "amount > 1.0"}, inputs)
    assert outputs.signals()["true"] == inputs


@pytest.mark.parametrize("expression", ["price <", "", "a" * 2001, "price < = 3", "def f(): pass"])
def test_an_expression_that_is_no_cel_is_refused_before_the_flow_starts(expression: str) -> None:
    assert NODE.validate_params({"expression": expression})


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("prise > 1.0", "variables here: price"),
        ("price", "not true or false"),
        ("price > 1.0 && nothing.there == 1.0", "nothing"),
        ("price / 0 > 1.0", "with a point"),
        ("1 / 0 == 1", "zero"),
    ],
)
async def test_an_expression_that_fails_says_why_and_what_it_had(
    ctx: MemoryContext, expression: str, said: str
) -> None:
    with pytest.raises(NodeFailed, match=said):
        await NODE.execute(ctx, {"expression": expression}, {"price": 2.0})


@pytest.mark.parametrize(
    "expression",
    [
        "s.all(a, s.all(b, s.all(c, s.all(d, a + b + c + d >= 0.0))))",
        "s.all(a, s.all/* */(b, a + b >= 0.0))".replace("/* */", "//'\n"),
        "r'\\'.size() == 1 && s.all(a, s.all(b, s.all(c, true))) && r'\\'.size() == 1",
    ],
)
def test_macros_nested_to_multiply_are_stopped_by_the_size_of_what_they_read(expression: str) -> None:
    started = time.perf_counter()
    with pytest.raises(NodeFailed, match="may read"):
        evaluate(expression, {"s": [1.0] * 1000})
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "expression",
    [
        "size(l.map(x, x)) > 0",
        "size(l.filter(x, true)) > 0",
        "(l + m + l + m).exists(x, x > 2.0)",
        "(l + // 2\n m + // 2\n l + m).exists(x, x > 2.0)",
    ],
)
def test_what_gathers_or_joins_long_lists_is_refused(expression: str) -> None:
    with pytest.raises(NodeFailed, match="may read"):
        evaluate(expression, {"l": [1.0] * 9_900, "m": [1.0] * 9_900})


def test_what_is_added_to_a_number_joins_no_list() -> None:
    wide = "l.all(x, x > low + 1.0) && m.all(x, x + 2.0 + low > 1.0 + low && 3 > low1)"
    assert evaluate(wide, {"l": [9.0] * 200, "m": [9.0] * 200, "low": 1.0, "low1": 1.0})


def test_a_macro_over_a_long_series_is_allowed() -> None:
    assert evaluate("s.all(x, x > 0.0)", {"s": [1.0] * 10_000})


TEN = "+".join("y" * 10)
LONG = "a" * 900_000


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        (f"size([s].map(y,{TEN}).map(y,{TEN}).map(y,{TEN})) > 0", {"s": LONG}),
        ("size(['x']" + f".map(y,{'+'.join('y' * 180)})" * 5 + ") > 0", {}),
        (f"size({'+'.join('s' * 600)}) > 0", {"s": LONG}),
        (f"size([{','.join('s' * 600)}]) > 0", {"s": LONG}),
        ("size(l.map(x, s)) > 0", {"l": [1.0] * 5000, "s": LONG}),
        ("size(l.map(x, l)) > 0", {"l": [1.0] * 5000}),
        ("size(l.map(x, string(m))) > 0", {"l": [1.0] * 9000, "m": LONG}),
        ("[s].all(y, [y+y+y+y].all(z, [z+z+z+z].all(y, [y+y+y+y].all(z, size(z+z+z+z) > 0))))", {"s": LONG}),
    ],
)
def test_a_condition_that_would_build_gigabytes_is_refused_unevaluated(
    monkeypatch: pytest.MonkeyPatch, expression: str, values: dict[str, Any]
) -> None:
    monkeypatch.setattr(condition_node, "_compiled", lambda _: pytest.fail("it was evaluated"))
    with pytest.raises(NodeFailed, match="condition_too_large"):
        evaluate(expression, values)


KLINES = [[float(row), 1.0, 3.0, 0.5, 2.0, 10.0] for row in range(1000)]


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("size(s + s + s) > 0", {"s": LONG}),
        ("symbol + 'USDT' == 'ETHUSDT'", {"symbol": "ETH", "said": LONG}),
        ("size(l.map(x, x * 2.0 + y)) == 1000", {"l": [1.0] * 1000, "y": 2.0}),
        ("size(candles.kline_data.map(k, k[4])) == 1000", {"candles": {"kline_data": KLINES, "limit": 1000}}),
        ("candles.exists(k, k[1] + k[2] + y > 4.0) && y in [1.0, 2.0, 3.0]", {"candles": KLINES, "y": 2.0}),
        ("l.all(x, x + y > 0.0)", {"l": [1.0] * 10_000, "y": 2.0}),
        ("string(price).startsWith('2') && size([1.0, 2.0].map(x, x)) == 2", {"price": 2.5}),
    ],
)
def test_a_condition_that_builds_little_is_evaluated(expression: str, values: dict[str, Any]) -> None:
    assert evaluate(expression, values)
