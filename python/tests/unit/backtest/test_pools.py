"""Backtests in recorded pools: as the record has it until a trade of ours moves the pool, and exact from then on."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.unit.backtest.flows import VAULT, edge, node
from tradingflow.chain.amm.concentrated import ConcentratedPool, TickLiquidity
from tradingflow.chain.amm.constant_product import ConstantProductPool
from tradingflow.chain.amm.tick_math import sqrt_price_at
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address
from tradingflow.py_worker.backtest.pool_candles import pool_candles
from tradingflow.py_worker.backtest.pool_trading import RecordedPool
from tradingflow.py_worker.backtest.result import BacktestResult
from tradingflow.py_worker.backtest.run import backtest, flow_under_test, lay_out
from tradingflow.py_worker.backtest.spec import BacktestSpec
from tradingflow.py_worker.simulation.pool_history import (
    PoolBlock,
    PoolEvent,
    PoolHistory,
    read_history,
    write_history,
)
from tradingflow.py_worker.simulation.pool_replay import happened, recorded

BASE, QUOTE, PAIR = (parse_address("0x" + digits.rjust(40, "0")) for digits in ("b1", "c2", "d3"))
START_MS, MINUTE = 1_700_000_040_000, 60_000
UNIT = 10**18
RESERVES = ConstantProductPool(BASE, QUOTE, 1_000 * UNIT, 2_000_000 * UNIT)


def swap(pool: ConstantProductPool, token_in: str, amount: int) -> tuple[PoolEvent, ConstantProductPool]:
    """What a pair logs of a swap, and the pair after it."""
    done = pool.swap(token_in, amount)
    ins, outs = ((amount, 0), (0, done.amount_out)) if token_in == BASE else ((0, amount), (done.amount_out, 0))
    return event(
        "Swap", done.pool, amount0In=ins[0], amount1In=ins[1], amount0Out=outs[0], amount1Out=outs[1]
    ), done.pool


def event(name: str, after: ConstantProductPool, **args: int) -> PoolEvent:
    told = {**args, "reserve0": after.reserve0, "reserve1": after.reserve1}
    return PoolEvent(PAIR, name, {key: str(value) for key, value in told.items()})


def history(*blocks: PoolBlock, minutes: int = 6, pool: Any = RESERVES) -> RecordedPool:
    end = START_MS + minutes * MINUTE
    return RecordedPool("ETH", MINUTE, PoolHistory(1, PAIR, 18, 18, BASE, pool, START_MS, end, list(blocks)))


def block(minute: float, *events: PoolEvent) -> PoolBlock:
    seconds = START_MS // 1000 + round(minute * 60)
    return PoolBlock(100 + round(minute * 5), seconds, events)


def buying(amount: str = "1000", **more: Any) -> dict[str, Any]:
    config = {"chain_id": 1, "vault": VAULT, "pool": PAIR, "amount": amount, "slippage_bps": 50, **more}
    price = node("price", "dex_price_node", {"chain_id": 1, "pool": PAIR})
    cheap = node("cheap", "condition_node", {"expression": "price < 2000"})
    edges = [edge("price", "price", "cheap", "price"), edge("cheap", "true", "buy", "trigger")]
    return {"nodes": [price, cheap, node("buy", "buy_node", config)], "edges": edges}


def outcome(pool: RecordedPool, flow: dict[str, Any] | None = None, **spec: Any) -> BacktestResult:
    return backtest(flow_under_test(flow or buying()), [], BacktestSpec(**spec), pools=[pool])


def test_a_trade_fills_for_what_the_pair_would_have_paid_and_moves_it() -> None:
    first, after_first = swap(RESERVES, BASE, 5 * UNIT)
    second, after_second = swap(after_first, QUOTE, 3_000 * UNIT)
    result = outcome(history(block(1.5, first), block(3.5, second)))
    ours = after_first.swap(QUOTE, 1_000 * UNIT)
    moved = ours.pool.swap(QUOTE, 1_000 * UNIT)
    assert [(t.decided_ms, t.filled_ms, t.receipt.amount_in, t.receipt.amount_out) for t in result.trades[:2]] == [
        (START_MS + 2 * MINUTE, START_MS + 2 * MINUTE, 1_000 * UNIT, ours.amount_out),
        (START_MS + 3 * MINUTE, START_MS + 3 * MINUTE, 1_000 * UNIT, moved.amount_out),
    ]
    # What another sold then is sold again, in the pair our trades have moved.
    theirs = moved.pool.swap(QUOTE, 3_000 * UNIT).pool
    third = theirs.swap(QUOTE, 1_000 * UNIT)
    assert result.trades[2].receipt.amount_out == third.amount_out
    assert after_second.swap(QUOTE, 1_000 * UNIT).amount_out != third.amount_out


def test_the_result_tells_prices_fees_and_blocks_of_the_pool() -> None:
    first, after_first = swap(RESERVES, BASE, 5 * UNIT)
    result = outcome(history(block(1.5, first), minutes=3), fill_model={"gas_cost": "2"})
    trade = result.trades[0]
    spot = after_first.spot_price(18, 18)
    assert trade.hops[0].bar.price == spot
    assert trade.receipt.block_number == block(1.5).number
    assert result.curve.invested[result.curve.times.tolist().index(trade.filled_ms)] > 990
    assert result.figures.fees == pytest.approx(sum(3.0 for _ in result.trades))
    assert result.figures.gas == 2 * len(result.trades)
    told = result.document()
    assert told["markets"][0]["pool"] == PAIR
    assert told["trades"][0]["symbol"] == "ETH"


def test_the_same_history_gives_the_same_bytes() -> None:
    first, _ = swap(RESERVES, BASE, 5 * UNIT)
    pool = history(block(1.5, first))
    again = replace(pool, history=read_history(write_history(pool.history)))
    assert outcome(pool).to_json() == outcome(again).to_json() == outcome(pool).to_json()


def test_liquidity_of_others_leaves_the_price_our_trades_made() -> None:
    ours = RESERVES.swap(QUOTE, 100_000 * UNIT).pool
    doubled = replace(RESERVES, reserve0=2 * RESERVES.reserve0, reserve1=2 * RESERVES.reserve1)
    for name in ("Mint", "Burn", "Sync"):
        after = happened(ours, RESERVES, event(name, doubled))
        assert after == replace(ours, reserve0=2 * ours.reserve0, reserve1=2 * ours.reserve1)
        assert happened(RESERVES, RESERVES, event(name, doubled)) == doubled


def concentrated() -> ConcentratedPool:
    liquidity = 10**21
    ticks = {-600: TickLiquidity(liquidity, liquidity), 600: TickLiquidity(liquidity, -liquidity)}
    return ConcentratedPool(BASE, QUOTE, 3_000, 60, sqrt_price_at(0), 0, liquidity, ticks)


def test_a_v3_pool_is_as_recorded_until_a_trade_moves_it() -> None:
    """A swap for an exact output leaves a price that selling the same amount again need not reach."""
    pool = concentrated()
    args = {"amount0": "1000", "amount1": "-1", "sqrtPriceX96": str(pool.sqrt_price - 7), "tick": "-1"}
    told = PoolEvent(PAIR, "Swap", {**args, "liquidity": str(pool.liquidity)})
    assert happened(pool, pool, told) == recorded(pool, told)
    moved = pool.swap(QUOTE, 10**15).pool
    assert happened(moved, pool, told) == moved.swap(BASE, 1_000).pool
    mint = PoolEvent(PAIR, "Mint", {"tickLower": "-60", "tickUpper": "60", "amount": "5"})
    assert happened(moved, pool, mint) == moved.after("Mint", mint.args)


def test_a_swap_that_our_pool_refuses_is_left_out() -> None:
    pool = concentrated()
    told = PoolEvent(PAIR, "Swap", {"amount0": "1000", "amount1": "-1"})
    empty = replace(pool, liquidity=0, ticks={}, words=None)
    assert happened(empty, pool, told) == empty


def test_a_v3_history_survives_its_json() -> None:
    pool = history(pool=concentrated()).history
    assert read_history(write_history(pool)) == pool


def test_candles_are_made_of_what_was_recorded() -> None:
    up, after_up = swap(RESERVES, QUOTE, 20_000 * UNIT)
    down, after_down = swap(after_up, BASE, 30 * UNIT)
    pool = history(block(1.2, up), block(1.4, down), minutes=3)
    (market,) = lay_out(flow_under_test(buying()).graph, [], [pool], BacktestSpec()).markets
    candles = pool_candles(pool, market)
    first, high, low = (float(p.spot_price(18, 18)) for p in (RESERVES, after_up, after_down))
    bought = RESERVES.swap(QUOTE, 20_000 * UNIT).amount_out
    assert candles.rows(0, 3) == [
        [START_MS, first, first, first, first, 0.0],
        [START_MS + MINUTE, first, high, low, low, pytest.approx(30 + float(Decimal(bought) / UNIT))],
        [START_MS + 2 * MINUTE, low, low, low, low, 0.0],
    ]


def test_the_price_can_be_told_the_other_way_round() -> None:
    first, after_first = swap(RESERVES, BASE, 5 * UNIT)
    market = {"symbol": "ETH", "base_token": QUOTE}
    flow = buying(amount="1", base_token=QUOTE)
    flow["nodes"][0]["config"]["base_token"] = QUOTE
    flow["nodes"][1]["config"]["expression"] = "price > 0.0005"
    result = outcome(history(block(1.5, first)), flow, markets=[market])
    assert result.trades[0].receipt.token_in == BASE
    assert result.trades[0].receipt.amount_out == after_first.swap(BASE, UNIT).amount_out
    assert result.figures.initial_equity == 10_000


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"fill_model": {"fee_bps": 5}}, "fill_model_unused"),
        ({"fill_model": {"price": "close"}}, "fill_model_unused"),
        ({"markets": [{"symbol": "BTC"}]}, "no_pool"),
        ({"markets": [{"symbol": "ETH", "base_token": VAULT}]}, "not_in_pool"),
    ],
)
def test_what_does_not_go_with_pools_is_refused(spec: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        outcome(history(), **spec)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("pools", "code"),
    [
        ([history(), replace(history(), symbol="BTC")], "pool_twice"),
        ([history(), replace(history(), history=replace(history().history, address=QUOTE))], "pool_twice"),
        ([replace(history(), interval_ms=60 * MINUTE)], "too_few_candles"),
        ([history(pool=replace(RESERVES, reserve0=0, reserve1=0))], "no_price_yet"),
        ([history(minutes=2_000_000)], "too_many_candles"),
    ],
)
def test_pools_that_cannot_be_traded_in_are_refused(pools: list[RecordedPool], code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        backtest(flow_under_test(buying()), [], BacktestSpec(), pools=pools)
    assert refused.value.code == code


def test_a_pool_the_flow_names_and_nobody_gave_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no symbol prices the pool"):
        outcome(history(), buying(pool="0x00000000000000000000000000000000000000e4"))
