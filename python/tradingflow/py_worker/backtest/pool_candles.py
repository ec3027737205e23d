"""Candles of a pool's recorded prices: what fire times and equity curves are made of."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import numpy as np

from tradingflow.chain.amm.pool import Pool
from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.py_worker.backtest.candles import Candles
from tradingflow.py_worker.backtest.markets import Market
from tradingflow.py_worker.backtest.pool_trading import RecordedPool
from tradingflow.py_worker.simulation.pool_history import PoolEvent, PoolHistory
from tradingflow.py_worker.simulation.pool_markets import price_seen_from
from tradingflow.py_worker.simulation.pool_replay import recorded

MAX_CANDLES = 1_000_000
BASE_AMOUNTS = (("amount0", "amount0In", "amount0Out"), ("amount1", "amount1In", "amount1Out"))


def pool_candles(pool: RecordedPool, market: Market) -> Candles:
    """One candle for every interval that lies in the history, also where nothing happened: the price stands.

    Prices are those after each event, as recorded; volume is in whole base tokens. Raises InvalidInput for a history
    shorter than one interval, or of a pool without a price.
    """
    history, interval_ms = pool.history, pool.interval_ms
    first = -(-history.start_ms // interval_ms)
    count = history.end_ms // interval_ms - first
    if count <= 0:
        raise InvalidInput("too_few_candles", f"the history of {market.symbol} is shorter than one candle")
    if count > MAX_CANDLES:
        raise InvalidInput("too_many_candles", f"{count:,} candles of {market.symbol}; at most {MAX_CANDLES:,}")
    try:
        last = float(price_seen_from(history.pool, market.base, market.quote))
    except Refused as error:
        raise InvalidInput(
            "no_price_yet", f"the pool of {market.symbol} had no price when its history begins"
        ) from error
    rows = np.zeros((5, count))
    seen = 0
    for time_ms, price, volume in _told(history, market):
        place = time_ms // interval_ms - first
        if place >= count:
            break
        if place >= 0:
            _stand(rows, seen, place + 1, last)
            seen = max(seen, place + 1)
            rows[1, place] = max(rows[1, place], price)
            rows[2, place] = min(rows[2, place], price)
            rows[3, place] = price
            rows[4, place] += volume
        last = price
    _stand(rows, seen, count, last)
    times = (np.arange(count, dtype=np.int64) + first) * interval_ms
    names = ("open", "high", "low", "close", "volume")
    return Candles.of(market.symbol, times, dict(zip(names, rows, strict=True)), interval_ms)


def _stand(rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]], start: int, end: int, price: float) -> None:
    """Candles that open at the price; nothing happened in them yet."""
    if start < end:
        rows[:4, start:end] = price


def _told(history: PoolHistory, market: Market) -> Iterator[tuple[int, float, float]]:
    """(Unix milliseconds, price, base amount) after each event that leaves a price."""
    pool: Pool = history.pool
    base_is_0 = market.base.address == pool.token0
    for block in history.blocks:
        for event in block.events:
            pool = recorded(pool, event)
            volume = _volume(event, BASE_AMOUNTS[0 if base_is_0 else 1], market.base.decimals)
            try:
                yield block.timestamp * 1000, float(price_seen_from(pool, market.base, market.quote)), volume
            except Refused:
                continue  # emptied: the last price stands


def _volume(event: PoolEvent, names: tuple[str, ...], decimals: int) -> float:
    if event.name != "Swap":
        return 0.0
    moved = sum(abs(int(event.args[name])) for name in names if name in event.args)
    return float(Decimal(moved).scaleb(-decimals))
