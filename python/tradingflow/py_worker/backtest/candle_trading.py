"""Trades and prices of a backtest whose markets are known by candles alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np

from tradingflow.chain.pool_math import invert, rate
from tradingflow.chain.swap_path import decode_path
from tradingflow.core.errors import InvalidInput, NotFound, Refused
from tradingflow.core.evm import parse_address
from tradingflow.py_worker.backtest.candle_venue import CandleVenue, last_close, opening
from tradingflow.py_worker.backtest.candles import Floats, Times
from tradingflow.py_worker.backtest.markets import Market
from tradingflow.py_worker.backtest.tape import Cursor, TapeClock
from tradingflow.py_worker.backtest.world import Fills, Markets, World
from tradingflow.py_worker.kit import PoolPrice, Quote, TokenInfo
from tradingflow.py_worker.kit.markets import price_of
from tradingflow.py_worker.simulation.vault import SimulatedVault


class CandleTrading:
    """Trades fill at the prices of the candles, which they do not move."""

    def fills(self, world: World) -> Fills:
        return CandleVenue(world.priced, world.model, opening if world.model.price == "next_open" else last_close)

    def markets(self, world: World) -> Markets:
        venue = CandleVenue(world.priced, world.model, last_close)
        return TapeMarkets(world.priced, venue, world.clock, world.vault)


class TapeMarkets:
    """`MarketData` of the candles' markets; a pool's price is the last close."""

    def __init__(
        self, markets: Sequence[tuple[Market, Cursor]], venue: CandleVenue, clock: TapeClock, vault: SimulatedVault
    ) -> None:
        self._pools = {market.pool: (market, cursor) for market, cursor in markets}
        self._tokens = {token.address: token for market, _ in markets for token in (market.base, market.quote)}
        self._quote_token = markets[0][0].quote.address if markets else None
        self._venue = venue
        self._clock = clock
        self._vault = vault
        self._prices: dict[tuple[str, str | None], tuple[int, PoolPrice]] = {}

    async def token(self, chain_id: int, address: str) -> TokenInfo:
        found = self._tokens.get(address) or self._tokens.get(parse_address(address))
        if found is None:
            raise Refused("unknown_token", f"no candles price the token {address}")
        return found

    async def pool_price(self, chain_id: int, pool: str, base_token: str | None = None) -> PoolPrice:
        market, cursor = self._market(pool)
        closed = cursor.closed()
        known = self._prices.get((pool, base_token))
        if known is None or known[0] != closed:
            price = self._oriented(market, last_close(cursor).price, base_token, closed)
            known = self._prices[pool, base_token] = closed, price
        return known[1]

    async def pool_twap(self, chain_id: int, pool: str, window_s: int, base_token: str | None = None) -> PoolPrice:
        """The geometric mean, as a Uniswap V3 oracle's mean tick gives, with each close standing until the next."""
        market, cursor = self._market(pool)
        last_close(cursor)
        now, closed, candles = self._clock.now_ms, cursor.closed(), cursor.candles
        since = now - window_s * 1000
        first = max(candles.closed_by(since) - 1, 0)
        times = np.clip(np.append(candles.close_time[first:closed], now), since, now)
        weights = np.diff(times)
        logs = np.log(candles.close[first:closed])
        mean = float(np.dot(logs, weights) / weights.sum()) if weights.sum() else float(logs[-1])
        return self._oriented(market, price_of(math.exp(mean)), base_token, closed)

    async def quote(self, chain_id: int, path: bytes, amount_in: int, router: str | None = None) -> Quote:
        tokens = decode_path(path).tokens
        token_in, token_out = await self.token(chain_id, tokens[0]), await self.token(chain_id, tokens[-1])
        amount_out = self._venue.quote(path, amount_in)
        if amount_out == 0:
            raise Refused("quote_failed", f"{amount_in} base units are worth less than one of {token_out.address}")
        price = rate(amount_in, token_in.decimals, amount_out, token_out.decimals)
        return Quote(token_in, token_out, amount_in, amount_out, price)

    async def balances(self, chain_id: int, holder: str, tokens: Sequence[str]) -> dict[str, int]:
        held: Mapping[str, int] = self._vault.balances if holder == self._vault.address else {}
        return {token: held.get(token, 0) for token in tokens}

    def quote_token(self, chain_id: int) -> str | None:
        return self._quote_token

    def pools(self, chain_id: int) -> tuple[str, ...]:
        return tuple(self._pools)

    def pool_tokens(self, pool: str, base_token: str | None) -> tuple[str, str]:
        market, _ = self._market(pool)
        tokens = market.base.address, market.quote.address
        return tokens[::-1] if base_token == tokens[1] else tokens

    def closes(self, pool: str, base_token: str | None, times: Times) -> Floats | None:
        """The pool's price at each of the times, NaN before the first close; None for the price the other way round."""
        market, cursor = self._market(pool)
        if base_token not in (None, market.base.address):
            return None
        closed = np.searchsorted(cursor.candles.close_time, times, "right")
        return np.where(closed > 0, cursor.candles.close[np.maximum(closed - 1, 0)], np.nan)

    def _market(self, pool: str) -> tuple[Market, Cursor]:
        found = self._pools.get(pool)
        if found is None:
            raise NotFound("pool", pool)
        return found

    def _oriented(self, market: Market, price: Decimal, base_token: str | None, position: int) -> PoolPrice:
        base, quote = market.base, market.quote
        if base_token == quote.address:
            base, quote, price = quote, base, invert(price)
        elif base_token not in (None, base.address):
            raise InvalidInput("not_in_pool", f"{base_token} is not a token of the pool {market.pool}")
        return PoolPrice(market.chain_id, market.pool, base, quote, price, market.fee, position)
