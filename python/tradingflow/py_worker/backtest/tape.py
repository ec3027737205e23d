"""What is known of the markets at a moment of the past, and nothing of what came after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.backtest.candles import Candles, plain_symbol
from tradingflow.py_worker.kit import CandleQuery
from tradingflow.py_worker.kit.batch import positions
from tradingflow.py_worker.kit.intervals import interval_ms, interval_name


class TapeClock:
    """`Clock` of a backtest: Unix milliseconds that only the driver moves, and only forwards.

    `on_move` is told the new time, before anybody can see it.
    """

    def __init__(self, start_ms: int) -> None:
        self.now_ms = start_ms
        self.on_move: Callable[[int], None] | None = None

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms / 1000, UTC)

    def advance_to(self, time_ms: int) -> None:
        if time_ms < self.now_ms:
            raise ValueError(f"a simulated clock cannot go back from {self.now_ms} to {time_ms}")
        if self.on_move is not None:
            self.on_move(time_ms)
        self.now_ms = time_ms


class Cursor:
    """The position of the clock in one series. Moves forward with it, so a look costs next to nothing."""

    def __init__(self, candles: Candles, clock: TapeClock) -> None:
        self.candles = candles
        self._clock = clock
        self._seen_ms = -1
        self._closed = 0
        self._close_times = positions(candles.close_time)
        self._count = len(candles)

    def closed(self) -> int:
        """How many candles have closed by now."""
        now = self._clock.now_ms
        if now != self._seen_ms:
            closed, times, count = self._closed, self._close_times, self._count
            while closed < count and times[closed] <= now:
                closed += 1
            self._closed, self._seen_ms = closed, now
        return self._closed

    def next_to_open(self) -> int | None:
        """Position of the first candle that opens now or later; None when the data ends before."""
        position = self.closed()
        opens = self.candles.open_time
        while position < self._count and opens[position] < self._clock.now_ms:
            position += 1
        return position if position < self._count else None


class Tape:
    """All series of a backtest. `CandleSource` of its nodes."""

    def __init__(self, series: Sequence[Candles], clock: TapeClock) -> None:
        self._clock = clock
        self._series: dict[tuple[str, int], Candles] = {}
        self._cursors: dict[tuple[str, int], Cursor] = {}
        for candles in series:
            key = plain_symbol(candles.symbol), candles.interval_ms
            if key in self._series:
                raise InvalidInput(
                    "series_twice", f"{candles.symbol} {interval_name(candles.interval_ms)} is given twice"
                )
            self._series[key] = candles
        self._given = tuple(self._series.values())

    @property
    def given(self) -> tuple[Candles, ...]:
        """The series as handed in, without those made of them."""
        return self._given

    def finest(self, symbol: str) -> Candles:
        """The series of a symbol with the shortest interval. Raises InvalidInput naming what there is."""
        wanted = plain_symbol(symbol)
        found = [candles for candles in self._given if plain_symbol(candles.symbol) == wanted]
        if not found:
            raise InvalidInput("no_candles", f"there are no candles of {symbol}; there are: {self._told()}")
        return min(found, key=lambda candles: candles.interval_ms)

    def series(self, symbol: str, interval: str) -> Candles:
        """The candles of that interval, made of shorter ones where they were not given."""
        key = plain_symbol(symbol), interval_ms(interval)
        if key not in self._series:
            shorter = [c for (name, step), c in self._series.items() if name == key[0] and key[1] % step == 0]
            if not shorter:
                raise InvalidInput(
                    "no_candles", f"there are no {interval} candles of {symbol}; there are: {self._told()}"
                )
            self._series[key] = max(shorter, key=lambda candles: candles.interval_ms).resampled(key[1])
        return self._series[key]

    def cursor(self, candles: Candles) -> Cursor:
        key = plain_symbol(candles.symbol), candles.interval_ms
        if key not in self._cursors:
            self._cursors[key] = Cursor(candles, self._clock)
        return self._cursors[key]

    async def candles(self, query: CandleQuery) -> list[list[float]]:
        """The newest `limit` closed candles. The exchange's name and address do not matter to history."""
        found = self.series(query.symbol, query.interval)
        closed = self.cursor(found).closed()
        return found.rows(max(0, closed - query.limit), closed)

    def _told(self) -> str:
        return ", ".join(f"{c.symbol} {interval_name(c.interval_ms)}" for c in self._given) or "none"
