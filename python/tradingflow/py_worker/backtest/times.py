"""When the cycles of a backtest fire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.backtest.candles import Candles, Times
from tradingflow.py_worker.engine.interval import Every, Interval, Once, parse_interval

MAX_CYCLES = 5_000_000


def fire_times(
    candles: Candles,
    cycle_interval: float | str | None,
    start: datetime | None,
    end: datetime | None,
    *,
    most: int = MAX_CYCLES,
) -> Times:
    """Unix milliseconds, rising. Without an interval: when each candle closes; else as for a flow started at `start`.

    The first is not before the first candle has closed, the last not after the last one has.
    """
    if not len(candles):
        raise InvalidInput("too_few_candles", f"there are no candles of {candles.symbol}")
    first = max(_ms(start), int(candles.close_time[0])) if start else int(candles.close_time[0])
    last = min(_ms(end), int(candles.close_time[-1])) if end else int(candles.close_time[-1])
    if first > last:
        raise InvalidInput(
            "no_cycles",
            f"no candle closes in that time; the first closes at {_told(candles.close_time[0])}, "
            f"the last at {_told(candles.close_time[-1])}",
        )
    if cycle_interval is None:
        closes = candles.close_time
        return closes[(closes >= first) & (closes <= last)]
    return _grid(parse_interval(cycle_interval), first, last, most)


def _grid(interval: Interval, first: int, last: int, most: int) -> Times:
    if isinstance(interval, Once):
        return np.array([first], np.int64)
    if isinstance(interval, Every):
        step = interval.period // timedelta(milliseconds=1)
        _check_count((last - first) // step + 1, most)
        return np.arange(first, last + 1, step, dtype=np.int64)
    found: list[int] = []
    moment = interval.step(_moment(first) - timedelta(milliseconds=1))
    while moment is not None and _ms(moment) <= last:
        found.append(_ms(moment))
        _check_count(len(found), most)
        moment = interval.step(moment)
    if not found:
        raise InvalidInput("no_cycles", "the schedule never fires in that time")
    return np.array(found, np.int64)


def _check_count(cycles: int, most: int) -> None:
    if cycles > most:
        raise InvalidInput("too_many_cycles", f"a backtest has at most {most:,} cycles; choose a longer interval")


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _told(time_ms: int) -> str:
    return _moment(int(time_ms)).isoformat().replace("+00:00", "Z")
