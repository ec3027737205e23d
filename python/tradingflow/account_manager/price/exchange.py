"""What one exchange says tokens cost, through ccxt: the middle of its best bid and ask, in its own digits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tradingflow.account_manager.price.markets import positive
from tradingflow.core.clock import Clock
from tradingflow.core.errors import DependencyUnavailable, TradingFlowError
from tradingflow.core.logging import get_logger
from tradingflow.core.money import EXACT
from tradingflow.outbound.client import HttpResponse
from tradingflow.outbound.exchanges import Http, know_market, open_exchange
from tradingflow.prices.agreement import MAX_SPREAD, Quote

log = get_logger(__name__)


class Exchange:
    """`markets` maps tokens to the exchange's own ids of their markets, whose quote currency is the quote token."""

    def __init__(self, name: str, http: Http, markets: Mapping[str, str], clock: Clock) -> None:
        self.name = name
        self._http = http
        self._markets = markets
        self._clock = clock

    async def quotes(self, tokens: Sequence[str]) -> dict[str, Quote]:
        """Of the tokens that have a market. One market that fails leaves the others to speak."""
        wanted = [token for token in tokens if token in self._markets]
        found = await asyncio.gather(*(self._quote(self._markets[token]) for token in wanted))
        return {token: quote for token, quote in zip(wanted, found, strict=True) if quote is not None}

    async def _quote(self, market_id: str) -> Quote | None:
        try:
            return self._read(await self._ticker(market_id))
        except TradingFlowError as error:
            log.warning("market not quoted", exchange=self.name, market=market_id, code=error.code)
            return None

    async def _ticker(self, market_id: str) -> dict[str, Any]:
        exchange = open_exchange(self.name, self._http, _accept)
        exchange.number = str  # ccxt's own switch against floats
        try:
            ticker: dict[str, Any] = await exchange.fetch_ticker(know_market(exchange, market_id))
            return ticker
        except TradingFlowError:
            raise
        except Exception as error:  # the edge: whatever ccxt makes of an answer it did not expect
            detail = f"{self.name} failed: {type(error).__name__}"
            raise DependencyUnavailable("market_unavailable", detail) from error
        finally:
            await exchange.close()

    def _read(self, ticker: Mapping[str, Any]) -> Quote:
        """ccxt makes up a last price where there is none; what is bid and asked it leaves alone."""
        bid, ask = positive(ticker.get("bid")), positive(ticker.get("ask"))
        if bid is None or ask is None or not Decimal(0) <= EXACT.subtract(ask, bid) <= EXACT.multiply(MAX_SPREAD, bid):
            detail = f"{self.name} has no bid and ask within {MAX_SPREAD:%} of each other"
            raise DependencyUnavailable("market_thin", detail)
        middle = EXACT.divide(EXACT.add(bid, ask), Decimal(2))
        return Quote(self.name, self.name, middle, self._moment(ticker.get("timestamp")))

    def _moment(self, unix_ms: Any) -> datetime:
        """The exchange's own time of the ticker; some name none, and answer with what is true now.

        A time to come, of a clock that is ahead or in another unit, says as little.
        """
        now = self._clock.now()
        if not isinstance(unix_ms, int) or isinstance(unix_ms, bool) or unix_ms >= now.timestamp() * 1000:
            return now
        return datetime.fromtimestamp(max(unix_ms, 0) / 1000, UTC)


def _accept(response: HttpResponse, name: str) -> None:
    if response.status != 200:
        raise DependencyUnavailable("market_unavailable", f"{name} answers {response.status}")
