"""What CoinGecko and GeckoTerminal answer, in their own format, failures included."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tradingflow.account_manager.price.markets import CoinGecko, GeckoTerminal, Market
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.evm import address_from_bytes
from tradingflow.outbound.client import HttpResponse

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WETH = address_from_bytes(b"\x11" * 20)
USDC = address_from_bytes(b"\xab" * 20)
ODD = address_from_bytes(b"\x33" * 20)


@dataclass
class Provider:
    """Answers every request, or the first `answers`, with one status and body; keeps what it was asked."""

    body: bytes
    status: int = 200
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    answers: int | None = None

    async def request(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, timeout_s: float = 10.0
    ) -> HttpResponse:
        self.asked.append((url, headers or {}))
        if self.answers is not None and len(self.asked) > self.answers:
            return HttpResponse(429, {}, b"", url)
        return HttpResponse(self.status, {}, self.body, url)


def coingecko(provider: Provider, key: str | None = None) -> Market:
    return CoinGecko(provider, "https://cg.example/api/v3", "ethereum", USDC, SimulatedClock(NOW), key)


def geckoterminal(provider: Provider) -> Market:
    return GeckoTerminal(provider, "https://gt.example/api/v2", "eth", USDC, SimulatedClock(NOW))


async def test_coingeckos_dollars_become_quote_tokens_to_the_last_digit_and_as_old_as_it_says() -> None:
    updated = int(NOW.timestamp()) - 42
    body = (
        f'{{"{WETH.lower()}": {{"usd": 3000.123456789012345678, "last_updated_at": {updated}}},'
        f'"{USDC.lower()}": {{"usd": 1, "last_updated_at": {int(NOW.timestamp())}}}, "{ODD.lower()}": {{}}}}'
    )
    provider = Provider(body.encode())
    found = await coingecko(provider, "demo-key").quotes([WETH, ODD])
    assert set(found) == {WETH}
    assert found[WETH].price == Decimal("3000.123456789012345678")
    assert found[WETH].as_of == NOW - timedelta(seconds=42)
    url, headers = provider.asked[0]
    assert url.startswith("https://cg.example/api/v3/simple/token_price/ethereum?contract_addresses=")
    assert "precision=full" in url
    assert headers["x-cg-demo-api-key"] == "demo-key"


async def test_a_quote_token_off_its_peg_is_reckoned_with() -> None:
    stamp = int(NOW.timestamp())
    body = {
        WETH.lower(): {"usd": 1900, "last_updated_at": stamp},
        USDC.lower(): {"usd": 0.95, "last_updated_at": stamp},
    }
    found = await coingecko(Provider(json.dumps(body).encode())).quotes([WETH])
    assert found[WETH].price == Decimal(2000)


async def test_a_price_without_a_time_counts_as_old() -> None:
    stamp = int(NOW.timestamp())
    body = {WETH.lower(): {"usd": 1900}, USDC.lower(): {"usd": 1, "last_updated_at": stamp}}
    found = await coingecko(Provider(json.dumps(body).encode())).quotes([WETH])
    assert found[WETH].as_of == datetime(1970, 1, 1, tzinfo=UTC)


async def test_geckoterminals_decimal_strings_are_read_exactly() -> None:
    prices = {WETH.lower(): "2084.57379936447", USDC.lower(): "1.0", ODD.lower(): None}
    body = {"data": {"id": "1", "type": "simple_token_price", "attributes": {"token_prices": prices}}}
    provider = Provider(json.dumps(body).encode())
    found = await geckoterminal(provider).quotes([WETH, ODD])
    assert {token: q.price for token, q in found.items()} == {WETH: Decimal("2084.57379936447")}
    assert provider.asked[0][0].startswith("https://gt.example/api/v2/simple/networks/eth/token_price/0x")


async def test_many_tokens_are_asked_for_in_batches() -> None:
    body = {USDC.lower(): {"usd": 1, "last_updated_at": int(NOW.timestamp())}}
    provider = Provider(json.dumps(body).encode())
    await coingecko(provider).quotes([address_from_bytes(n.to_bytes(20)) for n in range(1, 66)])
    assert len(provider.asked) == 3


async def test_what_was_answered_before_the_quota_ended_is_kept_and_nothing_more_is_asked() -> None:
    stamp = int(NOW.timestamp())
    prices = {token.lower(): {"usd": usd, "last_updated_at": stamp} for token, usd in ((WETH, 1900), (USDC, 1))}
    many = [address_from_bytes(n.to_bytes(20)) for n in range(1, 66)]
    provider = Provider(json.dumps(prices).encode(), answers=1)
    assert set(await coingecko(provider).quotes([WETH, *many])) == {WETH}
    assert len(provider.asked) == 2
    dollars = {WETH.lower(): "1900", USDC.lower(): "1"}
    provider = Provider(json.dumps({"data": {"attributes": {"token_prices": dollars}}}).encode(), answers=1)
    assert set(await geckoterminal(provider).quotes([WETH, *many])) == {WETH}
    assert all(token.lower() in provider.asked[0][0].lower() for token in (WETH, USDC))


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (429, b'{"status":{"error_code":429,"error_message":"exceeded the Rate Limit"}}', "market_unavailable"),
        (500, b"<html>", "market_unavailable"),
        (200, b"<html>", "market_malformed"),
        (200, b"[]", "market_malformed"),
        (200, b"{" * 100_000, "market_malformed"),
        (200, b"{}", "market_incomplete"),
        (200, b'{"0x1": 5}', "market_malformed"),
        (200, b'{"not an address": {"usd": 5}}', "market_malformed"),
    ],
)
async def test_an_answer_that_is_no_answer_is_an_unavailable_market(status: int, body: bytes, code: str) -> None:
    with pytest.raises(DependencyUnavailable) as raised:
        await coingecko(Provider(body, status)).quotes([WETH])
    assert raised.value.code == code


@pytest.mark.parametrize("price", [0, -1, "NaN", "Infinity", True, None, [], "", "1,5"])
async def test_a_price_that_is_none_is_left_out(price: Any) -> None:
    prices = {WETH.lower(): price, USDC.lower(): "1"}
    body = {"data": {"attributes": {"token_prices": prices}}}
    assert await geckoterminal(Provider(json.dumps(body).encode())).quotes([WETH]) == {}
