"""Candles of exchanges, asked for through the node's guarded client."""

from __future__ import annotations

import asyncio
from typing import Any

from tradingflow.core.errors import DependencyUnavailable, TooManyRequests, TradingFlowError
from tradingflow.outbound.exchanges import know_market, open_exchange
from tradingflow.py_worker.kit.context import HttpClient
from tradingflow.py_worker.kit.markets import CandleQuery
from tradingflow.py_worker.kit.node import NodeFailed
from tradingflow.py_worker.kit.providers import accept, malformed

COLUMNS = 6


class ExchangeCandles:
    """`CandleSource` that asks the exchange itself."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def candles(self, query: CandleQuery) -> list[list[float]]:
        # In a thread: importing ccxt takes a second of processor time, describing a large exchange 50 ms.
        exchange = await asyncio.to_thread(open_exchange, query.exchange, self._http, accept, query.base_url)
        try:
            symbol = await _symbol(exchange, query)
            rows = await exchange.fetch_ohlcv(symbol, query.interval, limit=query.limit)
            return [_row(row) for row in rows]
        except TradingFlowError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise malformed(query.exchange, f"an unexpected answer ({type(error).__name__})") from error
        except Exception as error:
            raise as_ours(error, query.exchange) from error
        finally:
            await exchange.close()


def _row(row: list[Any]) -> list[float]:
    """Raises ValueError for a candle that lacks a number."""
    numbers = [float(value) for value in row[:COLUMNS]]
    if len(numbers) < COLUMNS:
        raise ValueError("a candle has six numbers")
    return numbers


async def _symbol(exchange: Any, query: CandleQuery) -> str:
    """The exchange's own id is used as it is; a ccxt symbol needs the exchange's list of markets, save on Binance."""
    if "/" not in query.symbol:
        return know_market(exchange, query.symbol.upper())
    if query.exchange == "binance" and ":" not in query.symbol:
        return know_market(exchange, query.symbol.replace("/", "").upper())
    await exchange.load_markets()
    return query.symbol


def as_ours(error: Exception, exchange: str) -> Exception:
    """ccxt's errors as ours."""
    import ccxt

    if isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection):
        return TooManyRequests("provider_busy", f"{exchange} asks us to slow down", 10)
    if isinstance(error, ccxt.NetworkError):
        return DependencyUnavailable("provider_failed", f"{exchange} failed: {type(error).__name__}")
    return NodeFailed("provider_refused", f"{exchange} refuses: {type(error).__name__}: {str(error)[:200]}")
