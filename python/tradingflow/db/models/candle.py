"""Candles of exchanges, kept so that a backtest asks for each only once."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base

Double: DOUBLE_PRECISION[float] = DOUBLE_PRECISION()


class _OfSeries:
    """The key of a series.

    `base_url` is empty for the exchange's own address. What another server said is not kept; rows that name one are of
    an earlier release, and no longer read.
    """

    exchange: Mapped[str] = mapped_column(primary_key=True)
    base_url: Mapped[str] = mapped_column(primary_key=True)
    symbol: Mapped[str] = mapped_column(primary_key=True)
    timeframe: Mapped[str] = mapped_column(primary_key=True)


class ExchangeCandle(_OfSeries, Base):
    """A closed candle, in doubles as the exchange sent them. `open_time` is Unix milliseconds."""

    __tablename__ = "exchange_candles"

    open_time: Mapped[int] = mapped_column(primary_key=True)
    open: Mapped[float] = mapped_column(Double)
    high: Mapped[float] = mapped_column(Double)
    low: Mapped[float] = mapped_column(Double)
    close: Mapped[float] = mapped_column(Double)
    volume: Mapped[float] = mapped_column(Double)


class ExchangeCandleSpan(_OfSeries, Base):
    """From `start_time` until before `end_time` the exchange was asked: what is not there, it does not have."""

    __tablename__ = "exchange_candle_spans"

    start_time: Mapped[int] = mapped_column(primary_key=True)
    end_time: Mapped[int] = mapped_column(primary_key=True)
