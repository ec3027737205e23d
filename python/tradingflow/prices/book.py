"""The prices of all chains: pools asked now, markets as the refresh job last stored them.

Nobody who needs a price waits for somebody else's HTTP server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tradingflow.chain.client import ChainClient
from tradingflow.chain.uniswap import UniswapReader
from tradingflow.core.clock import Clock
from tradingflow.core.errors import Refused
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.db.engine import SessionFactory
from tradingflow.prices import points
from tradingflow.prices.agreement import AgreedPrice, Quote, agree
from tradingflow.prices.pools import PoolPrices, TokenPrice

MEAN_WINDOW_S = 300
# What may be traded on: two refreshes of the markets may fail before trading stops.
MAX_TRADE_AGE = timedelta(seconds=120)


class PriceBook:
    """`pools` are the on-chain prices by chain, for whoever needs them at one block."""

    def __init__(self, chains: Mapping[int, ChainClient], sessions: SessionFactory, clock: Clock) -> None:
        self._chains = chains
        self._sessions = sessions
        self._clock = clock
        self.pools = {i: PoolPrices(client.settings, UniswapReader(client)) for i, client in chains.items()}

    async def price(self, chain_id: int, token: str, max_age: timedelta) -> AgreedPrice:
        """What the sources agree on. Raises DependencyUnavailable when the chain does not answer."""
        quote_token = self._chains[chain_id].settings.quote_token
        if quote_token is None:
            return AgreedPrice(None, None, (), "no_quote_token", f"chain {chain_id} has no quote token configured")
        if token == quote_token:
            return AgreedPrice(Decimal(1), self._clock.now(), ())
        quotes = await self.quotes(chain_id, token)
        return agree(quotes, self._clock.now(), max_age)

    async def require(self, chain_id: int, token: str, max_age: timedelta = MAX_TRADE_AGE) -> Decimal:
        """The agreed price in whole quote tokens. Raises Refused("price_…"), saying what is wrong."""
        agreed = await self.price(chain_id, token, max_age)
        if agreed.price is None:
            raise Refused(f"price_{agreed.reason}", f"no price of {token} to trust: {agreed.detail}")
        return agreed.price

    async def named_tokens(self, chain_id: int) -> list[str]:
        """The tokens the settings name a pool or a market for."""
        in_pools = await self.pools[chain_id].tokens()
        return sorted({*in_pools, *self._chains[chain_id].settings.exchange_markets})

    async def quotes(self, chain_id: int, token: str) -> list[Quote]:
        """What each source says of a token, whatever its age."""
        on_chain, stored = await asyncio.gather(self._on_chain(chain_id, token), self._stored(chain_id, token))
        return [*on_chain, *stored]

    async def _on_chain(self, chain_id: int, token: str) -> list[Quote]:
        if token == ZERO_ADDRESS:
            return []
        client, pools = self._chains[chain_id], self.pools[chain_id]
        block = await client.guard(client.web3.eth.get_block("latest"))
        number, as_of = int(block["number"]), datetime.fromtimestamp(block["timestamp"], UTC)
        spot, mean = await asyncio.gather(pools.price(token, number), pools.mean_price(token, MEAN_WINDOW_S, number))
        return [_pool_quote("pool_spot", spot, as_of), _pool_quote("pool_mean", mean, as_of)]

    async def _stored(self, chain_id: int, token: str) -> list[Quote]:
        async with self._sessions() as session:
            return await points.newest_of_markets(session, chain_id, token)


def _pool_quote(source: str, said: TokenPrice, as_of: datetime) -> Quote:
    return Quote(source, "pools", said.price, as_of, said.reason)
