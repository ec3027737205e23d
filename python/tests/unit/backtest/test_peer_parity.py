"""The driver against an independent reference: the same rules, written as vectors, without nodes, graph or clock."""

from pathlib import Path

import numpy as np
import pytest

from tests.unit.backtest.flows import cross_flow, generated
from tradingflow.py_worker.backtest.candle_files import read_candles
from tradingflow.py_worker.backtest.candles import Candles
from tradingflow.py_worker.backtest.run import backtest, flow_under_test
from tradingflow.py_worker.backtest.spec import BacktestSpec

REAL = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "candles" / "ETH_BTC-5m.csv"
FEE = 0.003
CASH = 10_000.0


def moving_average(values: np.ndarray, period: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(values, period)
    return np.concatenate([np.full(period - 1, np.nan), windows.mean(axis=1)])


def reference(candles: Candles, fast: int, slow: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Positions of the candles that trades fill at, their price, and the equity at the last close.

    Long while the fast average is above the slow one; decided at a close, filled at the next open; 0.3 % of what is
    sold is the fee.
    """
    above = moving_average(candles.close, fast) > moving_average(candles.close, slow)
    long = np.concatenate([[False], above[:-1]])
    fills = np.flatnonzero(long != np.concatenate([[False], long[:-1]]))
    prices = candles.open[fills]
    directions = np.where(np.arange(len(fills)) % 2 == 0, 1 / prices, prices)
    worth = CASH * np.prod((1 - FEE) * directions)
    return fills, prices, float(worth * candles.close[-1] if len(fills) % 2 else worth)


def assert_equal_to_reference(candles: Candles) -> None:
    result = backtest(flow_under_test(cross_flow()), [candles], BacktestSpec())
    fills, prices, equity = reference(candles, 10, 30)
    assert len(fills) > 10
    assert [record.filled_ms for record in result.trades] == candles.open_time[fills].tolist()
    assert [float(record.hops[0].bar.price) for record in result.trades] == prices.tolist()
    assert [record.node_id for record in result.trades[:4]] == ["buy", "sell", "buy", "sell"]
    assert result.figures.final_equity == pytest.approx(equity, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_moving_average_cross_trades_and_ends_as_the_reference_does(seed: int) -> None:
    assert_equal_to_reference(generated(3_000, seed))


@pytest.mark.skipif(not REAL.is_file(), reason=f"{REAL} is not there")
def test_a_moving_average_cross_on_real_candles_ends_as_the_reference_does() -> None:
    assert_equal_to_reference(read_candles(REAL, "ETHBTC"))
