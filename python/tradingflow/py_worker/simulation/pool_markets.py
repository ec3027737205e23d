"""Market data of pools in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, cast

from tradingflow.chain.amm.pool import Pool
from tradingflow.chain.pool_math import default_base, invert, rate
from tradingflow.chain.swap_path import decode_path
from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.core.evm import parse_address
from tradingflow.py_worker.kit import PoolPrice, Quote, TokenInfo
from tradingflow.py_worker.simulation.gateway import SimulatedChain, SimulatedExecutor
from tradingflow.py_worker.simulation.venue import PoolKey, PoolVenue


@dataclass
class PoolMarkets:
    """`MarketData` of pools in memory. `keys` finds a pool by its address, `decimals` a token's."""

    chain_id: int
    executor: SimulatedExecutor
    keys: Mapping[str, PoolKey]
    decimals: Mapping[str, int]
    quote_address: str | None = None

    async def token(self, chain_id: int, address: str) -> TokenInfo:
        token = parse_address(address)
        if token not in self.decimals:
            raise Refused("not_a_token", f"{token} on chain {chain_id} has no decimals()")
        return TokenInfo(token, self.decimals[token])

    async def pool_price(self, chain_id: int, pool: str, base_token: str | None = None) -> PoolPrice:
        address, found = parse_address(pool), self.found(pool)
        sides = self.sides(found, base_token)
        base, quote = [await self.token(chain_id, token) for token in sides]
        price = price_seen_from(found, base, quote)
        kind: Literal["v2", "v3"] = "v2" if self.keys[address][2] is None else "v3"
        return PoolPrice(chain_id, address, base, quote, price, found.fee, self._chain.block_number, kind)

    def found(self, pool: str) -> Pool:
        """The pool at an address, as it stands. Raises Refused("not_a_pool")."""
        address = parse_address(pool)
        if address not in self.keys:
            raise Refused("not_a_pool", f"{address} on chain {self.chain_id} is no pool of this history")
        return self._venue.pool(self.keys[address])

    def sides(self, pool: Pool, base_token: str | None) -> tuple[str, str]:
        """Base and quote token of a pool. Raises InvalidInput as live for a token it does not hold."""
        base = parse_address(base_token) if base_token else default_base(pool.token0, pool.token1, self.quote_address)
        if base not in (pool.token0, pool.token1):
            raise InvalidInput("token_not_in_pool", f"the pool holds {pool.token0} and {pool.token1} only, not {base}")
        return base, pool.token1 if base == pool.token0 else pool.token0

    async def pool_twap(self, chain_id: int, pool: str, window_s: int, base_token: str | None = None) -> PoolPrice:
        raise Refused("twap_unsupported", "the history of a pool's observations is not simulated; use the spot price")

    async def quote(self, chain_id: int, path: bytes, amount_in: int, router: str | None = None) -> Quote:
        tokens = decode_path(path).tokens
        sold, bought = await self.token(chain_id, tokens[0]), await self.token(chain_id, tokens[-1])
        amount_out = self._venue.quote(path, amount_in)
        if amount_out <= 0:
            raise Refused("quote_zero", "the amount is too small: the pool would pay out nothing")
        return Quote(sold, bought, amount_in, amount_out, rate(amount_in, sold.decimals, amount_out, bought.decimals))

    async def balances(self, chain_id: int, holder: str, tokens: Sequence[str]) -> dict[str, int]:
        vault = self.executor.vaults.get((chain_id, parse_address(holder)))
        addresses = [parse_address(token) for token in tokens]
        return {token: 0 if vault is None else vault.balance(token) for token in addresses}

    def quote_token(self, chain_id: int) -> str | None:
        return self.quote_address

    def pools(self, chain_id: int) -> tuple[str, ...]:
        return tuple(self.keys)

    @property
    def _chain(self) -> SimulatedChain:
        return self.executor.chains[self.chain_id]

    @property
    def _venue(self) -> PoolVenue:
        return cast("PoolVenue", self._chain.venue)


def price_seen_from(pool: Pool, base: TokenInfo, quote: TokenInfo) -> Decimal:
    """Whole quote tokens for one whole base token; the two are the pool's, either way round."""
    if base.address == pool.token0:
        return pool.spot_price(base.decimals, quote.decimals)
    return invert(pool.spot_price(quote.decimals, base.decimals))
