"""Tickers of an exchange, in Binance's own format, failures included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from tradingflow.account_manager.price.exchange import Exchange
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.evm import address_from_bytes
from tradingflow.outbound.client import HttpResponse

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WETH = address_from_bytes(b"\x11" * 20)
OTHER = address_from_bytes(b"\x22" * 20)


def ticker(symbol: str, **changes: Any) -> dict[str, Any]:
    """As GET /api/v3/ticker/24hr answers."""
    numbers = "priceChange priceChangePercent weightedAvgPrice prevClosePrice lastQty bidQty askQty openPrice highPrice"
    values = dict.fromkeys([*numbers.split(), "lowPrice", "volume", "quoteVolume"], "1.00")
    times = {"openTime": 1, "closeTime": int(NOW.timestamp() * 1000) - 3000, "firstId": 1, "lastId": 2, "count": 2}
    prices = {"lastPrice": "3000.3", "bidPrice": "3000.123456789012345678", "askPrice": "3000.123456789012345680"}
    return {"symbol": symbol, **values, **times, **prices, **changes}


@dataclass
class Binance:
    answers: Mapping[str, tuple[int, bytes]]
    asked: list[str] = field(default_factory=list)

    async def request(self, method: str, url: str, **_: Any) -> HttpResponse:
        self.asked.append(url)
        status, body = self.answers[url.rsplit("symbol=", 1)[-1]]
        return HttpResponse(status, {}, body, url)


def exchange(http: Binance) -> Exchange:
    return Exchange("binance", http, {WETH: "ETHUSDT", OTHER: "FOOUSDT"}, SimulatedClock(NOW))


async def test_the_middle_of_bid_and_ask_is_exact_and_as_old_as_the_exchange_says() -> None:
    http = Binance({"ETHUSDT": (200, json.dumps(ticker("ETHUSDT")).encode())})
    found = await exchange(http).quotes([WETH, address_from_bytes(b"\x33" * 20)])
    assert found[WETH].price == Decimal("3000.123456789012345679")
    assert found[WETH].as_of == NOW - timedelta(seconds=3)
    assert http.asked == ["https://api.binance.com/api/v3/ticker/24hr?symbol=ETHUSDT"]


async def test_a_time_to_come_counts_as_none_whatever_unit_it_is_in() -> None:
    now_ms = int(NOW.timestamp() * 1000)
    for time in (now_ms + 60_000, now_ms * 1_000, now_ms * 1_000_000):
        http = Binance({"ETHUSDT": (200, json.dumps(ticker("ETHUSDT", closeTime=time)).encode())})
        assert (await exchange(http).quotes([WETH]))[WETH].as_of == NOW


async def test_a_market_that_fails_leaves_the_others_to_speak() -> None:
    good = (200, json.dumps(ticker("ETHUSDT")).encode())
    for bad in (
        (400, b'{"code":-1121,"msg":"Invalid symbol."}'),
        (429, b'{"code":-1003,"msg":"Too many requests."}'),
        (503, b"<html>"),
        (200, b"<html>"),
        (200, json.dumps(ticker("FOOUSDT", bidPrice="0")).encode()),
        (200, json.dumps(ticker("FOOUSDT", bidPrice="2900")).encode()),
        (200, json.dumps(ticker("FOOUSDT", bidPrice="3001")).encode()),
    ):
        found = await exchange(Binance({"ETHUSDT": good, "FOOUSDT": bad})).quotes([WETH, OTHER])
        assert set(found) == {WETH}, bad
