"""Exchanges through ccxt, whose every request is sent by a guarded client. ccxt is loaded when first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tradingflow.core.errors import DependencyUnavailable, InvalidInput
from tradingflow.outbound.client import HttpResponse

# A full list of markets; Binance's is the largest.
MAX_BODY_BYTES = 30_000_000
TIMEOUT_S = 20.0

# Of an answer and the exchange's name.
Accept = Callable[[HttpResponse, str], None]


class Http(Protocol):
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        timeout_s: float = 10.0,
        max_body_bytes: int = 1_000_000,
    ) -> HttpResponse: ...


def open_exchange(name: str, http: Http, accept: Accept, base_url: str | None = None) -> Any:
    """An exchange for public data; `accept` raises for an answer that is a refusal.

    Raises InvalidInput for an exchange ccxt does not know.
    """
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
                raise DependencyUnavailable("provider_malformed", f"{name}: its answer is no JSON")
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
