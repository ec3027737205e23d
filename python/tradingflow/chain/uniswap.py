"""Uniswap V2 and V3 as a reader sees them: pools, spot prices, time-weighted prices, quotes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from web3.types import BlockIdentifier

from tradingflow.chain.client import AnswerMissing, ChainClient
from tradingflow.chain.pool_math import (
    invert,
    mean_tick,
    price_from_reserves,
    price_from_sqrt,
    price_from_tick,
    v2_amount_out,
)
from tradingflow.chain.swap_path import V2_FEE, SwapPath, decode_path
from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.core.evm import ZERO_ADDRESS, parse_address


@dataclass(frozen=True)
class Pool:
    """What never changes about a pool. `fee` is in hundredths of a basis point."""

    address: str
    kind: Literal["v2", "v3"]
    token0: str
    token1: str
    decimals0: int
    decimals1: int
    fee: int

    def other(self, token: str) -> str:
        """The counterpart of `token`. Raises InvalidInput when the pool does not hold it."""
        if token not in (self.token0, self.token1):
            raise InvalidInput("token_not_in_pool", f"pool {self.address} holds {self.token0} and {self.token1} only")
        return self.token1 if token == self.token0 else self.token0

    def oriented(self, token1_per_token0: Decimal, base: str) -> Decimal:
        """The price seen from `base`: whole other token for one whole `base`."""
        return token1_per_token0 if base == self.token0 else invert(token1_per_token0)


class UniswapReader:
    """Reads one chain. What pools and tokens never change is read once."""

    def __init__(self, client: ChainClient) -> None:
        self._client = client
        self._pools: dict[str, Pool] = {}
        self._decimals: dict[str, int] = {}
        self._pairs: dict[tuple[str, str, str], str] = {}

    async def pool(self, address: str) -> Pool:
        """Raises Refused("not_a_pool") when the address is neither a V2 pair nor a V3 pool."""
        address = parse_address(address)
        if address not in self._pools:
            self._pools[address] = await self._read_pool(address)
        return self._pools[address]

    async def decimals(self, token: str) -> int:
        """Decimals as the token says. Raises Refused("not_a_token")."""
        token = parse_address(token)
        if token not in self._decimals:
            self._decimals[token] = int(await self._ask("ERC20", token, "decimals", "not_a_token"))
        return self._decimals[token]

    async def spot_price(self, pool: Pool, block: int) -> Decimal:
        """Whole token1 for one whole token0, fee not taken."""
        if pool.kind == "v2":
            reserve0, reserve1, _ = await self._client.call("UniswapV2Pair", pool.address, "getReserves", block=block)
            if not reserve0 or not reserve1:
                raise Refused("pool_empty", f"pool {pool.address} has no liquidity")
            return price_from_reserves(reserve0, reserve1, pool.decimals0, pool.decimals1)
        slot0 = await self._client.call("UniswapV3Pool", pool.address, "slot0", block=block)
        if not slot0[0]:
            raise Refused("pool_empty", f"pool {pool.address} has no price yet")
        return price_from_sqrt(slot0[0], pool.decimals0, pool.decimals1)

    async def mean_price(self, pool: Pool, window_s: int, block: int) -> Decimal:
        """Whole token1 for one whole token0, geometric mean over the last `window_s` seconds (V3 pools only)."""
        if pool.kind == "v2":
            raise Refused("twap_unsupported", "a V2 pair keeps no history; use the spot price or a V3 pool")
        try:
            ticks, _ = await self._client.call("UniswapV3Pool", pool.address, "observe", [window_s, 0], block=block)
        except Refused as error:
            raise Refused(
                "twap_too_long", f"pool {pool.address} does not remember {window_s} s; use a shorter window"
            ) from error
        return price_from_tick(mean_tick(ticks[0], ticks[1], window_s), pool.decimals0, pool.decimals1)

    async def quote(
        self, path: bytes, amount_in: int, block: BlockIdentifier = "latest", *, router: str | None = None
    ) -> int:
        """Base units of the last token for exactly `amount_in` of the first. Raises Refused when no pool would pay.

        A V2 path is quoted on the pairs of `router`'s factory (a pair itself knows it too), or of the chain's router.
        """
        if amount_in <= 0:
            raise InvalidInput("invalid_amount", "a quote needs an amount above zero")
        decoded = decode_path(path)
        if decoded.is_v2:
            amount_out = await self._quote_v2(decoded, amount_in, block, router)
        else:
            amount_out = await self._quote_v3(path, amount_in, block)
        if amount_out <= 0:
            raise Refused("quote_zero", "the amount is too small: the pool would pay out nothing")
        return amount_out

    async def pool_of(self, router: str, hop: SwapPath) -> str:
        """The pool in which a router swaps the two tokens of a hop. Raises Refused when it has none."""
        factory = await self._factory(router)
        if hop.is_v2:
            return await self._pair(factory, *hop.tokens)
        pool = str(await self._client.call("UniswapV3Factory", factory, "getPool", *hop.tokens, hop.fees[0]))
        if pool == ZERO_ADDRESS:
            raise Refused("no_pool", f"there is no pool of {hop.tokens[0]} and {hop.tokens[1]} with fee {hop.fees[0]}")
        return pool

    async def _quote_v3(self, path: bytes, amount_in: int, block: BlockIdentifier) -> int:
        quoter = self._client.settings.quoter
        if quoter is None:
            raise Refused("no_quoter", f"chain {self._client.chain_id} has no quoter configured")
        try:
            answer = await self._client.call("QuoterV2", quoter, "quoteExactInput", path, amount_in, block=block)
        except Refused as error:
            raise Refused("quote_refused", "no pool on this path can fill the swap") from error
        return int(answer[0])

    async def _quote_v2(self, path: SwapPath, amount_in: int, block: BlockIdentifier, router: str | None) -> int:
        factory = await self._factory(router or self._client.settings.router_for(is_v2=True))
        amount = amount_in
        for token_in, token_out in zip(path.tokens, path.tokens[1:], strict=False):
            pair = await self._pair(factory, token_in, token_out)
            reserve0, reserve1, _ = await self._client.call("UniswapV2Pair", pair, "getReserves", block=block)
            forward = int(token_in, 16) < int(token_out, 16)
            amount = v2_amount_out(amount, *((reserve0, reserve1) if forward else (reserve1, reserve0)))
        return amount

    async def _factory(self, router: str | None) -> str:
        """V2 and V3 routers alike say whose pools they trade in."""
        if router is None:
            raise Refused("no_router", f"chain {self._client.chain_id} has no swap router configured")
        return str(await self._ask("UniswapV2Router02", router, "factory", "not_a_router"))

    async def _pair(self, factory: str, token_a: str, token_b: str) -> str:
        key = (factory, min(token_a, token_b), max(token_a, token_b))
        if key not in self._pairs:
            try:
                pair = str(await self._client.call("UniswapV2Factory", factory, "getPair", token_a, token_b))
            except Refused as error:
                raise Refused(
                    "not_a_v2_router", f"the factory {factory} of the router has no getPair(): name a V2-style router"
                ) from error
            if pair == ZERO_ADDRESS:
                raise Refused("no_pool", f"there is no V2 pair of {token_a} and {token_b}")
            self._pairs[key] = pair
        return self._pairs[key]

    async def _read_pool(self, address: str) -> Pool:
        token0 = str(await self._ask("UniswapV3Pool", address, "token0", "not_a_pool"))
        token1 = str(await self._ask("UniswapV3Pool", address, "token1", "not_a_pool"))
        kind, fee = await self._kind_and_fee(address)
        return Pool(address, kind, token0, token1, await self.decimals(token0), await self.decimals(token1), fee)

    async def _kind_and_fee(self, address: str) -> tuple[Literal["v2", "v3"], int]:
        """A V3 pool knows its fee; a V2 pair has no such function."""
        try:
            return "v3", int(await self._ask("UniswapV3Pool", address, "fee", "not_v3"))
        except Refused:
            await self._ask("UniswapV2Pair", address, "getReserves", "not_a_pool")
            return "v2", V2_FEE

    async def _ask(self, abi: str, address: str, function: str, refusal: str) -> Any:
        """A view without arguments; an address that is not that kind of contract is refused as `refusal`."""
        try:
            return await self._client.call(abi, address, function)
        except Refused as error:
            raise Refused(refusal, f"{address} on chain {self._client.chain_id} has no {function}()") from error
        except AnswerMissing as error:
            raise Refused(refusal, f"{address} on chain {self._client.chain_id} is no contract") from error
