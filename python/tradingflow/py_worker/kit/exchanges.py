"""Candles of exchanges, asked for through the node's guarded client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tradingflow.core.errors import DependencyUnavailable, TooManyRequests, TradingFlowError
from tradingflow.outbound.exchanges import know_market, open_exchange
from tradingflow.py_worker.kit.context import HttpClient
from tradingflow.py_worker.kit.markets import CandleQuery
from tradingflow.py_worker.kit.node import NodeFailed
from tradingflow.py_worker.kit.providers import accept, malformed

COLUMNS = 6


@dataclass(frozen=True)
class OpenMarket:
    """A market of an exchange that can be asked again and again."""

    exchange: Any
    symbol: str
    query: CandleQuery

    async def newest(self) -> list[list[float]]:
        """The query's candles."""
        return await self._ask(None)

    async def since(self, start_ms: int) -> list[list[float]]:
        """As many as the query's limit, from that time on; fewer where the exchange sends fewer."""
        return await self._ask(start_ms)

    async def _ask(self, since: int | None) -> list[list[float]]:
        rows = await self.exchange.fetch_ohlcv(self.symbol, self.query.interval, since=since, limit=self.query.limit)
        return [_row(row) for row in rows]


class ExchangeCandles:
    """`CandleSource` that asks the exchange itself."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def candles(self, query: CandleQuery) -> list[list[float]]:
        async with self.opened(query) as market:
            return await market.newest()

    @asynccontextmanager
    async def opened(self, query: CandleQuery) -> AsyncIterator[OpenMarket]:
        """The market of the query. What goes wrong with the exchange inside is raised as an error of ours."""
        # In a thread: importing ccxt takes a second of processor time, describing a large exchange 50 ms.
        exchange = await asyncio.to_thread(open_exchange, query.exchange, self._http, accept, query.base_url)
        try:
            yield OpenMarket(exchange, await _symbol(exchange, query), query)
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
