"""Candles of one symbol and one interval, as columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit.intervals import WEEK_MS, interval_name

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
NAMES = ("open", "high", "low", "close", "volume")
_YEAR_2200_MS = 7_258_118_400_000
# Unix time 0 was a Thursday; exchanges begin their weeks on Monday.
_WEEK_OFFSET_MS = 4 * 86_400_000


def plain_symbol(symbol: str) -> str:
    """`ETH/USDT`, `eth-usdt` and `ETHUSDT` are one symbol."""
    return re.sub(r"[^A-Z0-9]", "", symbol.upper())


@dataclass(frozen=True, eq=False)
class Candles:
    """`open_time` is Unix milliseconds, rising by multiples of `interval_ms`; a candle is known once it has closed.

    Prices are doubles as exchanges send them: for decisions and statistics. Fills turn them into exact fractions.
    """

    symbol: str
    interval_ms: int
    open_time: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    @staticmethod
    def of(symbol: str, open_time: Times, columns: dict[str, Floats], length_ms: int | None = None) -> Candles:
        """Raises InvalidInput naming the first candle (from 1) that cannot be one."""
        step = _check_times(open_time, length_ms)
        found = Candles(symbol, step, open_time, *(np.ascontiguousarray(columns[name]) for name in NAMES))
        _check_prices(found)
        return found

    def __len__(self) -> int:
        return len(self.open_time)

    @cached_property
    def close_time(self) -> Times:
        return self.open_time + self.interval_ms

    @property
    def columns(self) -> dict[str, Floats]:
        return {name: getattr(self, name) for name in NAMES}

    @property
    def gaps(self) -> int:
        """How many candles of the grid are missing."""
        if not len(self):
            return 0
        return int((self.open_time[-1] - self.open_time[0]) // self.interval_ms) + 1 - len(self)

    def between(self, start: int, end: int) -> Candles:
        """Candles at positions `start` to `end`."""
        parts = (column[start:end] for column in self.columns.values())
        return Candles(self.symbol, self.interval_ms, self.open_time[start:end], *parts)

    def closed_by(self, time_ms: int) -> int:
        """How many candles have closed by then."""
        return int(np.searchsorted(self.close_time, time_ms, "right"))

    def rows(self, start: int, end: int) -> list[list[float]]:
        """As exchanges send them: open time, open, high, low, close, volume."""
        times = self.open_time[start:end].astype(np.float64)
        columns = [times, *(column[start:end] for column in self.columns.values())]
        return np.column_stack(columns).tolist() if end > start else []

    def resampled(self, length_ms: int) -> Candles:
        """Longer candles of the same market, begun at whole multiples of their length (weeks on Monday)."""
        if length_ms % self.interval_ms:
            raise InvalidInput(
                "no_candles",
                f"{self.symbol}: {interval_name(length_ms)} cannot be made of {interval_name(self.interval_ms)}",
            )
        offset = _WEEK_OFFSET_MS if length_ms % WEEK_MS == 0 else 0
        buckets = (self.open_time - offset) // length_ms * length_ms + offset
        # A bucket whose beginning is not on the tape has no true open, high and low.
        whole = self.between(int(np.searchsorted(buckets, self.open_time[0])) if len(self) else 0, len(self))
        return whole.grouped(buckets[len(self) - len(whole) :], length_ms)

    def grouped(self, buckets: Times, length_ms: int) -> Candles:
        """One candle for each run of equal `buckets`, which are their open times."""
        if not len(self):
            empty = self.between(0, 0)
            return Candles(self.symbol, length_ms, empty.open_time, *empty.columns.values())
        starts = np.flatnonzero(np.diff(buckets, prepend=buckets[0] - 1))
        ends = np.append(starts[1:], len(self)) - 1
        return Candles(
            self.symbol,
            length_ms,
            buckets[starts],
            self.open[starts],
            np.maximum.reduceat(self.high, starts),
            np.minimum.reduceat(self.low, starts),
            self.close[ends],
            np.add.reduceat(self.volume, starts),
        )


def _check_times(open_time: Times, length_ms: int | None) -> int:
    if len(open_time) < 2 and length_ms is None:
        raise InvalidInput("too_few_candles", "two candles at least: their distance is the interval")
    far = np.flatnonzero((open_time < -_YEAR_2200_MS) | (open_time > _YEAR_2200_MS))
    if len(far):
        raise InvalidInput(
            "candles_out_of_time", f"candle {int(far[0]) + 1} does not lie between the years 1740 and 2200"
        )
    steps = np.diff(open_time)
    if len(steps) and (steps <= 0).any():
        at = int(np.flatnonzero(steps <= 0)[0]) + 2
        raise InvalidInput("candles_out_of_order", f"candle {at} does not begin after the one before it")
    length = length_ms or int(steps.min())
    if len(steps) and (steps % length).any():
        at = int(np.flatnonzero(steps % length)[0]) + 2
        raise InvalidInput(
            "candles_off_grid", f"candle {at} is not a multiple of {interval_name(length)} after its forerunner"
        )
    return length


def _check_prices(candles: Candles) -> None:
    prices = np.vstack([candles.open, candles.high, candles.low, candles.close])
    good = np.isfinite(prices).all(axis=0) & (prices > 0).all(axis=0) & (candles.high >= candles.low)
    good &= np.isfinite(candles.volume) & (candles.volume >= 0)
    if not good.all():
        at = int(np.flatnonzero(~good)[0]) + 1
        raise InvalidInput(
            "invalid_candle", f"candle {at}: prices are above zero, high is not below low, volume is not negative"
        )
