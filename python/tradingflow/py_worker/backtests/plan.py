"""Whether flow, data and spec fit together, told before a backtest is queued; and the same again in its process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.backtest.candle_files import parse_candles
from tradingflow.py_worker.backtest.candles import Candles
from tradingflow.py_worker.backtest.driver import TestedFlow
from tradingflow.py_worker.backtest.pool_trading import RecordedPool
from tradingflow.py_worker.backtest.requests import read_spec
from tradingflow.py_worker.backtest.run import Laid, flow_under_test, lay_out
from tradingflow.py_worker.backtest.spec import BacktestSpec
from tradingflow.py_worker.backtest.tape import Tape, TapeClock
from tradingflow.py_worker.backtest.times import fire_times
from tradingflow.py_worker.kit.intervals import interval_ms
from tradingflow.py_worker.simulation.pool_history import read_history

MAX_CYCLES = 250_000
MAX_CANDLES = 250_000


@dataclass(frozen=True)
class Plan:
    """A backtest that can run, and how many cycles it has."""

    flow: TestedFlow
    laid: Laid
    spec: BacktestSpec
    cycles: int


def make_plan(request: dict[str, Any], files: Sequence[str]) -> Plan:
    """From a job's `request` and the texts of its data. CPU work: not for an event loop.

    Raises InvalidInput and InvalidFlow for what cannot run.
    """
    key = request["flow_pk"]
    flow = flow_under_test(
        request["flow_json"], request["name"], flow_pk=UUID(key) if key else None, version=request["version"]
    )
    spec = read_spec(request["spec"])
    given = list(zip(request["series"], files, strict=True))
    series = [_series(one, text) for one, text in given if not one.get("pool")]
    pools = [_pool(one, text) for one, text in given if one.get("pool")]
    laid = lay_out(flow.graph, series, pools, spec)
    candles = sum(map(len, laid.series))
    if candles > MAX_CANDLES:
        raise InvalidInput("too_many_candles", f"a backtest has at most {MAX_CANDLES:,} candles; these are {candles:,}")
    main = Tape(laid.series, TapeClock(0)).finest(laid.markets[0].symbol)
    cycles = len(fire_times(main, spec.cycle_interval, spec.start, spec.end, most=MAX_CYCLES))
    return Plan(flow, laid, spec, cycles)


def _series(named: dict[str, Any], text: str) -> Candles:
    length = interval_ms(named["interval"]) if named["interval"] else None
    return parse_candles(text, f"the data of {named['symbol']}", named["symbol"], length)


def _pool(named: dict[str, Any], text: str) -> RecordedPool:
    return RecordedPool(named["symbol"], interval_ms(named["interval"]), read_history(text))
