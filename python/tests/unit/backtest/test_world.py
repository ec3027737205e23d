"""What a flow sees and may do in a backtest: the tape, the vault's policy, and checks for look-ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.backtest.flows import FIVE_MINUTES, POOL, VAULT, cross_flow, edge, generated, node, trade_config
from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.backtest.check import check
from tradingflow.py_worker.backtest.run import backtest, flow_under_test
from tradingflow.py_worker.backtest.spec import BacktestSpec
from tradingflow.py_worker.backtest.tape import Tape, TapeClock
from tradingflow.py_worker.kit import (
    NOT_TAKEN,
    BatchRun,
    CandleQuery,
    Column,
    Json,
    Node,
    NodeContext,
    NodeInputs,
    NodeOutputs,
    NodeParams,
    node_types,
)


def drive(running: Any) -> Any:
    with pytest.raises(StopIteration) as stop:
        running.send(None)
    return stop.value.value


@given(at=st.integers(0, 130), interval=st.sampled_from(["5m", "10m", "15m", "1h"]), seed=st.integers(0, 9))
def test_the_tape_shows_closed_candles_only_whatever_the_interval(at: int, interval: str, seed: int) -> None:
    candles, clock = generated(120, seed), TapeClock(0)
    tape = Tape([candles], clock)
    now = int(candles.open_time[0]) + at * FIVE_MINUTES - 1
    clock.advance_to(now)
    for row in drive(tape.candles(CandleQuery("any", "ETH-BTC", interval, 1000))):
        length = tape.series("ETHBTC", interval).interval_ms
        assert row[0] + length <= now
        assert row[0] >= candles.open_time[0]  # a longer candle that began before the tape has no true open
        inside = (candles.open_time >= row[0]) & (candles.open_time < row[0] + length)
        assert row[2] == candles.high[inside].max()
        assert row[4] == candles.close[inside][-1]


def test_a_clock_does_not_go_back() -> None:
    clock = TapeClock(5)
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance_to(4)


def always_buying(percent: str = "10") -> dict[str, Any]:
    return {
        "nodes": [
            node("price", "dex_price_node", {"chain_id": 1, "pool": POOL}),
            node("buy", "buy_node", trade_config(percent)),
        ],
        "edges": [edge("price", "price", "buy", "trigger")],
    }


def refused_with(spec: Mapping[str, Any]) -> set[str]:
    result = backtest(flow_under_test(always_buying()), [generated(10)], BacktestSpec.model_validate(spec))
    return set(result.world.ledger.refusals)


def test_the_vaults_cool_down_refuses_as_the_contract() -> None:
    assert refused_with({"policy": {"cooldown_s": 0}}) == set()
    assert refused_with({"policy": {"cooldown_s": 301}}) == {"cooldown_active"}


def test_the_vaults_list_of_tokens_refuses_as_the_contract() -> None:
    assert refused_with({"policy": {"tokens": {}}}) == {"token_not_allowed"}


def test_a_loss_cap_counts_the_fee_of_each_trade() -> None:
    assert refused_with({"policy": {"loss_cap": {"cap": str(10**18), "window_s": 86_400}}}) == {"loss_cap_exceeded"}


def test_slippage_beyond_what_the_node_accepts_is_refused_by_the_router() -> None:
    assert refused_with({"fill_model": {"slippage_bps": 51}}) == {"slippage_exceeded"}
    assert refused_with({"fill_model": {"slippage_bps": 50}}) == set()


@pytest.mark.parametrize("route", [{}, {"route": "v2"}, {"route": "v2", "router": VAULT}, {"router": VAULT}])
def test_candles_fill_whatever_route_and_router_a_swap_names(route: dict[str, str]) -> None:
    swap = {key: value for key, value in trade_config().items() if key != "pool"}
    tokens = {"token_in": "0x" + "b" * 40, "token_out": "0x" + "a" * 40}
    flow = {"nodes": [node("swap", "swap_node", {**swap, **tokens, **route})], "edges": []}
    spec = BacktestSpec.model_validate({"markets": [{"symbol": "ETHBTC", "base_token": tokens["token_out"]}]})
    result = backtest(flow_under_test(flow), [generated(10)], spec)
    assert result.trades
    assert result.world.ledger.refusals == {}


def test_a_trade_larger_than_its_share_of_the_candle_is_refused() -> None:
    assert refused_with({"fill_model": {"volume_limit": "0.000001"}}) == {"volume_limit"}


def test_gas_is_taken_off_the_equity() -> None:
    free, paid = (
        backtest(
            flow_under_test(always_buying()),
            [generated(10)],
            BacktestSpec.model_validate({"fill_model": {"gas_cost": gas}}),
        )
        for gas in ("0", "2")
    )
    assert paid.figures.gas == 2 * len(paid.trades)
    assert free.figures.final_equity - paid.figures.final_equity == pytest.approx(paid.figures.gas)


def test_two_symbols_need_to_be_told_their_pools() -> None:
    series = [generated(10), generated(10, symbol="BTCUSDT")]
    with pytest.raises(InvalidInput, match="say which pool"):
        backtest(flow_under_test(always_buying()), series, BacktestSpec())
    told = BacktestSpec.model_validate({"markets": [{"symbol": "ETHBTC", "pool": POOL}, {"symbol": "BTCUSDT"}]})
    assert backtest(flow_under_test(always_buying()), series, told).trades


class Peeking(NodeOutputs):
    latest: Json = NOT_TAKEN


class PeekingNode(Node[NodeParams, NodeInputs, Peeking]):
    """Compares with the highest close of all the data: a mistake that makes any backtest shine."""

    type = "peeking_node"
    title = description = category = "test"

    async def run(self, ctx: NodeContext, params: NodeParams, inputs: NodeInputs) -> Peeking:
        raise NotImplementedError

    def batch(self, run: BatchRun, params: NodeParams) -> Mapping[str, Column]:
        columns, _, ends = run.tape.candle_windows(CandleQuery("any", "ETHBTC", "5m", 1))
        near = columns["close"][np.asarray(ends) - 1] > columns["close"].mean()
        return {"latest": Column(run.ran & near, lambda _: True)}


def test_a_check_reports_a_decision_that_rests_on_what_came_later() -> None:
    flow = {"nodes": [node("peek", "peeking_node", {})], "edges": []}
    types = {**node_types(), "peeking_node": PeekingNode()}
    report = check(flow_under_test(flow, types=types), [generated(300)], BacktestSpec(), points=5)
    assert report.looks_ahead
    assert {change.node_id for change in report.changes} == {"peek"}


def test_a_check_finds_the_warm_up_of_an_average_that_never_forgets() -> None:
    flow = cross_flow(5, 12, 200)
    flow["nodes"][2]["config"] = {"indicator": "EMA", "params": {"timeperiod": 30}}
    report = check(flow_under_test(flow), [generated(600)], BacktestSpec(), points=3)
    assert not report.looks_ahead
    assert report.warm_up is not None
    assert report.warm_up >= 29
