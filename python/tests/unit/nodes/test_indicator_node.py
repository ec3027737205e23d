import csv
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import talib

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit import NodeFailed
from tradingflow.py_worker.kit.testing import MemoryContext
from tradingflow.py_worker.nodes.indicator_node import IndicatorNode

NODE = IndicatorNode()
CANDLES = Path(__file__).parents[5] / "shared/data/candles/ETH_BTC-5m.csv"
WALK = [100 + 10 * math.sin(i / 7) + (i * 37 % 11) for i in range(300)]


async def run(ctx: MemoryContext, config: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    return (await NODE.execute(ctx, config, inputs)).signals()


async def over_cycles(ctx: MemoryContext, config: dict[str, Any], values: list[tuple[int, str]]) -> Any:
    """The indicator's values after each (cycle, value) was fed in turn."""
    signals: dict[str, Any] = {}
    for cycle, value in values:
        ctx.cycle = cycle
        signals = await run(ctx, config, {"value": value})
    return signals["values"]


@pytest.mark.parametrize("name", ["SMA", "EMA", "RSI", "WMA", "ROC", "STDDEV", "LINEARREG", "TRIX"])
async def test_a_series_gives_exactly_what_talib_gives(ctx: MemoryContext, name: str) -> None:
    signals = await run(ctx, {"indicator": name, "params": {"timeperiod": 14}}, {"series": WALK})
    expected = getattr(talib, name)(np.array(WALK), timeperiod=14)
    got = np.array([math.nan if value is None else value for value in signals["values"]])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9, equal_nan=True)
    assert signals["latest"] == pytest.approx(expected[-1], abs=1e-9)


async def test_several_lines_come_by_name(ctx: MemoryContext) -> None:
    signals = await run(ctx, {"indicator": "macd"}, {"series": WALK})
    assert set(signals["latest"]) == {"macd", "macdsignal", "macdhist"}
    assert len(signals["values"]["macd"]) == len(WALK)


async def test_candles_and_exchange_rows_read_alike(ctx: MemoryContext) -> None:
    candles = [{"high": str(x + 1), "low": str(x - 1), "close": str(x)} for x in WALK]
    rows = {"header": ["time", "High", "Low", "Close"], "kline_data": [[0, x + 1, x - 1, x] for x in WALK]}
    config = {"indicator": "ATR", "params": {"timeperiod": 14}}
    assert await run(ctx, config, {"series": candles}) == await run(ctx, config, {"series": rows})


async def test_while_warming_up_there_is_no_latest_and_what_hangs_on_it_is_skipped(ctx: MemoryContext) -> None:
    outputs = await NODE.execute(ctx, {"indicator": "SMA", "params": {"timeperiod": 3}}, {"series": [1, 2]})
    assert outputs.signals() == {"values": [None, None]}
    assert outputs.not_taken() == {"latest"}


async def test_one_number_a_cycle_is_remembered_in_order(ctx: MemoryContext) -> None:
    config = {"indicator": "SMA", "params": {"timeperiod": 3}}
    seen = await over_cycles(ctx, config, list(enumerate(["10", "20", "30", "40"])))
    assert seen == [None, None, 20.0, 30.0]


async def test_a_cycle_run_again_counts_once(ctx: MemoryContext) -> None:
    config = {"indicator": "SMA", "params": {"timeperiod": 2}}
    seen = await over_cycles(ctx, config, [(0, "10"), (1, "20"), (1, "20"), (2, "30"), (1, "20")])
    assert seen == [None, 15.0, 25.0]


async def test_only_as_many_cycles_are_kept_as_asked(ctx: MemoryContext) -> None:
    config = {"indicator": "SMA", "params": {"timeperiod": 2}, "remember": 3}
    seen = await over_cycles(ctx, config, [(cycle, str(cycle)) for cycle in range(10)])
    assert seen == [None, 7.5, 8.5]


@pytest.mark.parametrize(
    "config",
    [{"indicator": "NOPE"}, {"indicator": "SMA", "params": {"period": 3}}, {"indicator": "SMA", "remember": 1}, {}],
)
def test_an_indicator_or_option_talib_does_not_have_is_refused_before_the_flow_starts(config: dict[str, Any]) -> None:
    assert NODE.validate_params(config)


@pytest.mark.parametrize(
    "series",
    ["text", 5, [1, "two"], [True], [{"close": 1}, {"open": 1}], {"kline_data": [[1]]}, [[1, 2]], [1] * 10_001],
)
async def test_a_series_that_is_none_is_refused(ctx: MemoryContext, series: Any) -> None:
    with pytest.raises(InvalidInput, match="invalid_series"):
        await run(ctx, {"indicator": "SMA"}, {"series": series})


async def test_a_missing_column_is_named(ctx: MemoryContext) -> None:
    with pytest.raises(InvalidInput, match="lacking: high, low"):
        await run(ctx, {"indicator": "ATR"}, {"series": WALK})


async def test_an_option_out_of_range_says_so(ctx: MemoryContext) -> None:
    with pytest.raises(NodeFailed, match="TA-Lib refuses SMA"):
        await run(ctx, {"indicator": "SMA", "params": {"timeperiod": -1}}, {"series": WALK})


async def test_an_empty_series_is_warming_up(ctx: MemoryContext) -> None:
    assert await run(ctx, {"indicator": "RSI"}, {"series": []}) == {"values": []}


@pytest.mark.skipif(not CANDLES.exists(), reason="the real candles of ../shared/data are not on this machine")
async def test_real_candles_give_what_talib_gives(ctx: MemoryContext) -> None:
    rows = list(csv.DictReader(CANDLES.read_text().splitlines()))[:1000]
    signals = await run(ctx, {"indicator": "ATR", "params": {"timeperiod": 14}}, {"series": rows})
    high, low, close = (np.array([float(row[name]) for row in rows]) for name in ("high", "low", "close"))
    assert signals["latest"] == pytest.approx(talib.ATR(high, low, close, timeperiod=14)[-1], abs=1e-9)


async def test_a_thousand_points_take_at_most_two_milliseconds(ctx: MemoryContext) -> None:
    series = (WALK * 4)[:1000]
    config = {"indicator": "RSI", "params": {"timeperiod": 14}}
    await run(ctx, config, {"series": series})
    times = []
    for _ in range(50):
        started = time.process_time()
        await run(ctx, config, {"series": series})
        times.append(time.process_time() - started)
    assert min(times) < 0.002
