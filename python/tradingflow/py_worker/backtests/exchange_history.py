"""Candles of exchanges through ccxt, kept in PostgreSQL. What was asked for once is not asked for again.

What a server of the user's own choice says is used and not kept: whoever names ever other ones would fill the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Table, select
from sqlalchemy.dialects.postgresql import insert

from tradingflow.core.clock import Clock
from tradingflow.core.errors import DependencyUnavailable, InvalidInput
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import ExchangeCandle, ExchangeCandleSpan
from tradingflow.py_worker.backtest.candles import NAMES, Candles
from tradingflow.py_worker.kit.context import HttpClient
from tradingflow.py_worker.kit.exchanges import ExchangeCandles
from tradingflow.py_worker.kit.intervals import interval_ms
from tradingflow.py_worker.kit.markets import CandleQuery
from tradingflow.py_worker.places import Places

# No exchange that pages sends fewer for one request.
PAGE = 300
MAX_CANDLES = 20_000
MAX_DOWNLOADS = 4
COLUMNS = ("open_time", *NAMES)
Span = tuple[int, int]


@dataclass(frozen=True)
class Wanted:
    """Candles that open from `start_ms` until before `end_ms`."""

    exchange: str
    symbol: str
    timeframe: str
    start_ms: int
    end_ms: int
    base_url: str | None = None

    @property
    def is_kept(self) -> bool:
        return self.base_url is None

    @property
    def series(self) -> dict[str, Any]:
        """The key of the series in both tables. What is kept is from the exchange's own address."""
        return {
            "exchange": self.exchange,
            "base_url": "",
            "symbol": self.symbol.upper(),
            "timeframe": self.timeframe,
        }


def missing(wanted: Span, known: Sequence[Span]) -> list[Span]:
    """What of a span no known one covers, in order."""
    found, (at, until) = [], wanted
    for start, end in sorted(known):
        if start >= until:
            break
        if start > at:
            found.append((at, start))
        at = max(at, end)
    return [*found, (at, until)] if at < until else found


def download_places() -> Places:
    """Each download can be hundreds of requests to an exchange that counts them, or tens of megabytes of events."""
    return Places(MAX_DOWNLOADS, "download_busy", "data are being fetched")


class ExchangeHistory:
    def __init__(self, sessions: SessionFactory, clock: Clock, http: HttpClient) -> None:
        self._sessions = sessions
        self._clock = clock
        self._candles = ExchangeCandles(http)

    async def rows(self, wanted: Wanted) -> list[list[float]]:
        """Closed candles as exchanges send them, oldest first; those not kept are downloaded.

        Raises InvalidInput for a span too long or an unknown exchange, TooManyRequests, DependencyUnavailable and
        NodeFailed when the exchange does not answer, or answers no.
        """
        step = interval_ms(wanted.timeframe)
        now_ms = round(self._clock.now().timestamp() * 1000)
        start = -(-wanted.start_ms // step) * step
        # The first that is still forming begins here.
        end = min(wanted.end_ms, now_ms // step * step)
        if start >= end:
            raise InvalidInput("no_candles", f"no {wanted.timeframe} candle of {wanted.symbol} closed in that time")
        if (count := (end - start) // step) > MAX_CANDLES:
            raise InvalidInput(
                "too_many_candles",
                f"at most {MAX_CANDLES:,} candles of an exchange at a time; from start to end these are {count:,}",
            )
        if not wanted.is_kept:
            return await self._downloaded(wanted, (start, end), step)
        for span in missing((start, end), await self._known(wanted)):
            await self._downloaded(wanted, span, step)
        return await self._kept(wanted, start, end)

    async def _downloaded(self, wanted: Wanted, span: Span, step: int) -> list[list[float]]:
        """Page by page, each kept at once, if at all: after a failure only the rest is asked for again."""
        query = CandleQuery(wanted.exchange, wanted.symbol, wanted.timeframe, PAGE, wanted.base_url)
        found: list[list[float]] = []
        async with self._candles.opened(query) as source:
            at, end = span
            while at < end:
                rows = _checked(wanted, [row for row in await source.since(at) if at <= row[0] < end], step)
                if rows:
                    following = int(rows[-1][0]) + step
                    if wanted.is_kept:
                        await self._keep(wanted, rows, (at, following))
                    found += rows
                    at = following
                else:
                    # Nothing may also mean that it answers for so long a time only; that is not remembered.
                    at += PAGE * step
        return found

    async def _keep(self, wanted: Wanted, rows: list[list[float]], span: Span) -> None:
        candles = [{**wanted.series, **dict(zip(COLUMNS, (int(row[0]), *row[1:]), strict=True))} for row in rows]
        covered = {**wanted.series, "start_time": span[0], "end_time": span[1]}
        async with self._sessions.begin() as session:
            await session.execute(insert(ExchangeCandle).on_conflict_do_nothing(), candles)
            await session.execute(insert(ExchangeCandleSpan).on_conflict_do_nothing(), covered)

    async def _known(self, wanted: Wanted) -> list[Span]:
        chosen = select(ExchangeCandleSpan.start_time, ExchangeCandleSpan.end_time)
        async with self._sessions() as session:
            rows = await session.execute(chosen.where(*_is(ExchangeCandleSpan.__table__, wanted)))
            return [(start, end) for start, end in rows]

    async def _kept(self, wanted: Wanted, start: int, end: int) -> list[list[float]]:
        table = ExchangeCandle.__table__
        chosen = select(*(table.c[name] for name in COLUMNS)).where(
            *_is(table, wanted), table.c.open_time >= start, table.c.open_time < end
        )
        async with self._sessions() as session:
            return [list(row) for row in await session.execute(chosen.order_by(table.c.open_time))]


def _is(table: Any, wanted: Wanted) -> list[Any]:
    assert isinstance(table, Table)  # noqa: S101 (what SQLAlchemy's types leave open)
    return [table.c[name] == value for name, value in wanted.series.items()]


def _checked(wanted: Wanted, rows: list[list[float]], step: int) -> list[list[float]]:
    """Raises DependencyUnavailable for what no exchange should send: none of it is kept."""
    times = np.array([row[0] for row in rows], np.int64)
    columns = {name: np.array([row[place] for row in rows]) for place, name in enumerate(NAMES, start=1)}
    try:
        Candles.of(wanted.symbol, times, columns, step)
    except InvalidInput as error:
        raise DependencyUnavailable("provider_malformed", f"{wanted.exchange}: {error.detail}") from error
    return rows
