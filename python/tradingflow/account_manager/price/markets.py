"""Markets outside the chain: what CoinGecko and GeckoTerminal say tokens cost.

Both quote in US dollars; a price in the chain's quote token is the quotient of two such prices. Numbers are read as
the decimals they are written as.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation, localcontext
from itertools import islice
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from tradingflow.core.clock import Clock
from tradingflow.core.errors import DependencyUnavailable, InvalidInput
from tradingflow.core.evm import parse_address
from tradingflow.core.logging import get_logger
from tradingflow.outbound.client import HttpResponse
from tradingflow.prices.agreement import Quote

log = get_logger(__name__)

# Enough for a quotient of two prices of thirty digits.
QUOTIENT_DIGITS = 40
TIMEOUT_S = 10.0
# GeckoTerminal's own limit of addresses a request; CoinGecko takes more.
TOKENS_A_REQUEST = 30


class Http(Protocol):
    async def request(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, timeout_s: float = 10.0
    ) -> HttpResponse: ...


class Market(Protocol):
    """`quotes` answers for the tokens the market lists, in the order given as far as it gets.

    Raises DependencyUnavailable when it gets nowhere.
    """

    name: str

    async def quotes(self, tokens: Sequence[str]) -> dict[str, Quote]: ...


@dataclass(frozen=True)
class Dollars:
    price: Decimal
    as_of: datetime


class CoinGecko:
    """Prices averaged over exchanges. https://docs.coingecko.com/reference/simple-token-price"""

    name = "coingecko"

    def __init__(
        self, http: Http, base_url: str, platform: str, quote_token: str, clock: Clock, api_key: str | None = None
    ) -> None:
        self._http = http
        self._base = f"{base_url.rstrip('/')}/simple/token_price/{quote(platform, safe='')}"
        self._quote_token = quote_token
        self._clock = clock
        self._headers = {"x-cg-demo-api-key": api_key} if api_key else {}

    async def quotes(self, tokens: Sequence[str]) -> dict[str, Quote]:
        found = await ask_in_batches(self.name, (self._quote_token, *tokens), self._ask)
        return in_quote_token(self.name, found, self._quote_token)

    async def _ask(self, batch: Sequence[str]) -> dict[str, Dollars]:
        query = {
            "contract_addresses": ",".join(batch),
            "vs_currencies": "usd",
            "include_last_updated_at": "true",
            "precision": "full",
        }
        answer = await ask_json(self._http, self.name, f"{self._base}?{urlencode(query)}", self._headers)
        return dict(self._read(answer))

    def _read(self, answer: Any) -> Iterator[tuple[str, Dollars]]:
        """`{address: {"usd": price, "last_updated_at": unix seconds}}`; an unlisted token is missing or empty."""
        for address, said in as_object(self.name, answer).items():
            listed = as_object(self.name, said)
            if (price := positive(listed.get("usd"))) is not None:
                updated = listed.get("last_updated_at")
                yield read_address(self.name, address), Dollars(price, _moment(updated, self._clock.now()))


class GeckoTerminal:
    """Prices in the deepest pools of a chain. https://docs.coingecko.com/reference/onchain-simple-price"""

    name = "geckoterminal"

    def __init__(self, http: Http, base_url: str, network: str, quote_token: str, clock: Clock) -> None:
        self._http = http
        self._base = f"{base_url.rstrip('/')}/simple/networks/{quote(network, safe='')}/token_price"
        self._quote_token = quote_token
        self._clock = clock

    async def quotes(self, tokens: Sequence[str]) -> dict[str, Quote]:
        found = await ask_in_batches(self.name, (self._quote_token, *tokens), self._ask)
        return in_quote_token(self.name, found, self._quote_token)

    async def _ask(self, batch: Sequence[str]) -> dict[str, Dollars]:
        answer = await ask_json(self._http, self.name, f"{self._base}/{','.join(batch)}", {})
        return dict(self._read(answer))

    def _read(self, answer: Any) -> Iterator[tuple[str, Dollars]]:
        """`data.attributes.token_prices` maps addresses to decimal strings, current as of the answer."""
        data = as_object(self.name, as_object(self.name, answer).get("data"))
        prices = as_object(self.name, as_object(self.name, data.get("attributes")).get("token_prices"))
        for address, said in prices.items():
            if (price := positive(said)) is not None:
                yield read_address(self.name, address), Dollars(price, self._clock.now())


async def ask_in_batches(
    name: str, tokens: Iterable[str], ask: Callable[[Sequence[str]], Awaitable[dict[str, Dollars]]]
) -> dict[str, Dollars]:
    """What the market says up to the first batch that fails. Raises DependencyUnavailable when that is nothing."""
    found: dict[str, Dollars] = {}
    for batch in _batches(dict.fromkeys(tokens)):
        try:
            found |= await ask(batch)
        except DependencyUnavailable as error:
            if not found:
                raise
            log.warning("market not asked to the end", market=name, code=error.code, detail=error.detail)
            break
    return found


async def ask_json(http: Http, name: str, url: str, headers: dict[str, str]) -> Any:
    """Raises DependencyUnavailable for any answer but a 200 with JSON."""
    response = await http.request("GET", url, headers={"accept": "application/json", **headers}, timeout_s=TIMEOUT_S)
    if response.status != 200:
        raise DependencyUnavailable("market_unavailable", f"{name} answers {response.status}")
    try:
        return json.loads(response.body, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise malformed(name) from error


def in_quote_token(name: str, found: dict[str, Dollars], quote_token: str) -> dict[str, Quote]:
    """Dollar prices as whole quote tokens. Without the quote token's own price nothing can be said."""
    base = found.get(quote_token)
    if base is None:
        raise DependencyUnavailable("market_incomplete", f"{name} does not quote the chain's quote token")
    with localcontext() as context:
        context.prec = QUOTIENT_DIGITS
        return {
            token: Quote(name, name, said.price / base.price, min(said.as_of, base.as_of))
            for token, said in found.items()
            if token != quote_token
        }


def positive(value: Any) -> Decimal | None:
    """A price above zero; None for everything else a market may say where it knows none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        return None
    try:
        price = Decimal(value)
    except (InvalidOperation, ValueError):
        return None
    return price if price.is_finite() and price > 0 else None


def as_object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise malformed(name)
    return value


def read_address(name: str, text: str) -> str:
    try:
        return parse_address(text)
    except InvalidInput as error:
        raise malformed(name) from error


def malformed(name: str) -> DependencyUnavailable:
    return DependencyUnavailable("market_malformed", f"the answer of {name} is not in its documented format")


def _moment(unix_seconds: Any, now: datetime) -> datetime:
    """When the market last updated the price; without a sane time the price counts as old as the epoch."""
    if isinstance(unix_seconds, bool) or not isinstance(unix_seconds, (int, Decimal)):
        return datetime.fromtimestamp(0, UTC)
    return datetime.fromtimestamp(min(max(int(unix_seconds), 0), int(now.timestamp())), UTC)


def _batches(tokens: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(tokens)
    while batch := list(islice(rest, TOKENS_A_REQUEST)):
        yield batch
