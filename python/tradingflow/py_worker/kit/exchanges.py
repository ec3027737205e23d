"""Exchanges through ccxt, whose every request is sent by the node's guarded client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tradingflow.core.errors import DependencyUnavailable, InvalidInput, TooManyRequests, TradingFlowError
from tradingflow.outbound.client import HttpResponse
from tradingflow.py_worker.kit.context import HttpClient
from tradingflow.py_worker.kit.markets import CandleQuery
from tradingflow.py_worker.kit.node import NodeFailed
from tradingflow.py_worker.kit.providers import accept, malformed

# A full list of markets; Binance's is the largest.
MAX_BODY_BYTES = 30_000_000
TIMEOUT_S = 20.0


COLUMNS = 6


class ExchangeCandles:
    """`CandleSource` that asks the exchange itself."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def candles(self, query: CandleQuery) -> list[list[float]]:
        exchange = open_exchange(query.exchange, self._http, query.base_url)
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


def open_exchange(name: str, http: HttpClient, base_url: str | None) -> Any:
    """An exchange for public data. Raises InvalidInput for one ccxt does not know."""
    import ccxt.async_support

    if name not in ccxt.exchanges:
        raise InvalidInput("unknown_exchange", f"ccxt knows no exchange {name!r}")
    kind: Any = getattr(ccxt.async_support, name)

    class Guarded(kind):  # type: ignore[misc]
        """The exchange with its HTTP replaced."""

        async def fetch(
            self, url: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: str | None = None
        ) -> Any:
            sent = {
                key: value for key, value in (headers or {}).items() if key.lower() not in ("host", "accept-encoding")
            }
            content = body.encode() if isinstance(body, str) else body
            response = await http.request(
                method, url, headers=sent, content=content, timeout_s=TIMEOUT_S, max_body_bytes=MAX_BODY_BYTES
            )
            return self._understand(response, url, method, headers, body)

        def _understand(self, response: HttpResponse, url: str, method: str, headers: Any, body: Any) -> Any:
            """As ccxt does with an answer: the exchange's own error codes, then the status, then the JSON."""
            text = response.body.decode("utf-8", "replace")
            parsed, status = self.parse_json(text), response.status
            self.handle_errors(status, str(status), url, method, dict(response.headers), text, parsed, headers, body)
            accept(response, name)
            if parsed is None:
                raise malformed(name, "its answer is no JSON")
            return parsed

    exchange = Guarded({"enableRateLimit": False, "options": {"fetchMarkets": {"types": ["spot"]}}})
    if base_url is not None:
        _redirect(exchange, base_url)
    return exchange


def _redirect(exchange: Any, base_url: str) -> None:
    """Let every API of the exchange live under another address, paths kept."""
    from urllib.parse import urlsplit

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(item) for key, item in value.items()}
        return base_url.rstrip("/") + urlsplit(value).path if isinstance(value, str) else value

    exchange.urls["api"] = moved(exchange.urls["api"])


def know_market(exchange: Any, market_id: str) -> str:
    """Make a market known by the exchange's own id, sparing the download of all its markets; its symbol for ccxt."""
    market = exchange.safe_market_structure(
        {"id": market_id, "symbol": market_id, "base": market_id, "quote": "", "type": "spot", "spot": True}
    )
    exchange.set_markets([market])
    return market_id


def as_ours(error: Exception, exchange: str) -> Exception:
    """ccxt's errors as ours."""
    import ccxt

    if isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection):
        return TooManyRequests("provider_busy", f"{exchange} asks us to slow down", 10)
    if isinstance(error, ccxt.NetworkError):
        return DependencyUnavailable("provider_failed", f"{exchange} failed: {type(error).__name__}")
    return NodeFailed("provider_refused", f"{exchange} refuses: {type(error).__name__}: {str(error)[:200]}")
