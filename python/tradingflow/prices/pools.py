"""What the chain's configured pools say a token is worth in the chain's quote token."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext

from tradingflow.chain.uniswap import Pool, UniswapReader
from tradingflow.core.config import ChainSettings
from tradingflow.core.errors import Refused
from tradingflow.core.money import PRECISION

# Whole token1 for one whole token0 of a pool.
PriceOfPool = Callable[[Pool], Awaitable[Decimal]]
# Each hop adds its pool's fee and depth to the error.
MAX_HOPS = 3


@dataclass(frozen=True)
class TokenPrice:
    """Whole quote tokens for one whole token; `price` is None when it cannot be known, and `reason` says why."""

    price: Decimal | None
    reason: str | None = None


class PoolPrices:
    """Prices on one chain; the pools themselves are read once."""

    def __init__(self, settings: ChainSettings, reader: UniswapReader) -> None:
        self._settings = settings
        self._reader = reader

    async def tokens(self) -> list[str]:
        """The quote token and every token a configured pool holds."""
        found = [self._settings.quote_token] if self._settings.quote_token else []
        for pool in await self._pools():
            found += [token for token in (pool.token0, pool.token1) if token not in found]
        return found

    async def price(self, token: str, block: int) -> TokenPrice:
        """Spot price at the end of `block`, along the shortest way of configured pools."""
        return await self._price(token, lambda pool: self._reader.spot_price(pool, block))

    async def mean_price(self, token: str, window_s: int, block: int) -> TokenPrice:
        """The same as a time-weighted mean of the last `window_s` seconds, which one block cannot move."""
        return await self._price(token, lambda pool: self._reader.mean_price(pool, window_s, block))

    async def _price(self, token: str, ask: PriceOfPool) -> TokenPrice:
        quote = self._settings.quote_token
        if quote is None:
            return TokenPrice(None, "no_quote_token")
        if token == quote:
            return TokenPrice(Decimal(1))
        way = shortest_way(await self._pools(), token, quote)
        if way is None:
            return TokenPrice(None, "no_pool")
        try:
            return TokenPrice(await self._along(way, token, ask))
        except Refused as error:
            return TokenPrice(None, error.code)

    async def _along(self, way: list[Pool], token: str, ask: PriceOfPool) -> Decimal:
        spots = await asyncio.gather(*(ask(pool) for pool in way))
        price = Decimal(1)
        with localcontext() as context:
            context.prec = PRECISION
            for pool, spot in zip(way, spots, strict=True):
                price *= pool.oriented(spot, token)
                token = pool.other(token)
        return price

    async def _pools(self) -> list[Pool]:
        return list(await asyncio.gather(*(self._reader.pool(address) for address in self._settings.pools)))


def shortest_way(pools: list[Pool], start: str, end: str) -> list[Pool] | None:
    """The pools to pass from one token to another, at most MAX_HOPS; None when there is no way."""
    queue: deque[tuple[str, list[Pool]]] = deque([(start, [])])
    seen = {start}
    while queue:
        token, way = queue.popleft()
        if token == end:
            return way
        if len(way) == MAX_HOPS:
            continue
        for pool in pools:
            if token in (pool.token0, pool.token1) and (following := pool.other(token)) not in seen:
                seen.add(following)
                queue.append((following, [*way, pool]))
    return None
