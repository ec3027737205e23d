"""A Uniswap V2 pair: reserves whose product never falls (whitepaper v2, section 3.2.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Self

from tradingflow.chain.amm.pool import FEE_DENOMINATOR, Swapped, sells_token0
from tradingflow.chain.pool_math import price_from_reserves
from tradingflow.core.errors import Refused

UNISWAP_V2_FEE = 3_000
MAX_RESERVE = 2**112 - 1


@dataclass(frozen=True, slots=True)
class ConstantProductPool:
    """Reserves are base units, `fee` hundredths of a basis point (3000 for Uniswap itself, others for its forks)."""

    token0: str
    token1: str
    reserve0: int
    reserve1: int
    fee: int = UNISWAP_V2_FEE

    def swap(self, token_in: str, amount_in: int) -> Swapped[Self]:
        """As `swapExactTokensForTokens` does for one pair. Raises Refused where the router or the pair reverts."""
        forward = sells_token0(self, token_in)
        reserve_in, reserve_out = (self.reserve0, self.reserve1) if forward else (self.reserve1, self.reserve0)
        if amount_in <= 0 or not (reserve_in and reserve_out):
            raise Refused("reverted", "the pair takes no amount of zero, and none while a reserve is empty")
        amount_out = self.quote(token_in, amount_in)
        if amount_out == 0:
            raise Refused("reverted", "the pair pays out nothing for so little")
        if reserve_in + amount_in > MAX_RESERVE:
            raise Refused("reverted", "the pair cannot hold so much")
        change = (amount_in, -amount_out) if forward else (-amount_out, amount_in)
        pool = replace(self, reserve0=self.reserve0 + change[0], reserve1=self.reserve1 + change[1])
        return Swapped(amount_in, amount_out, pool)

    def quote(self, token_in: str, amount_in: int) -> int:
        """`UniswapV2Library.getAmountOut`; 0 where it would pay nothing."""
        forward = sells_token0(self, token_in)
        reserve_in, reserve_out = (self.reserve0, self.reserve1) if forward else (self.reserve1, self.reserve0)
        less_fee = amount_in * (FEE_DENOMINATOR - self.fee)
        divisor = reserve_in * FEE_DENOMINATOR + less_fee
        return less_fee * reserve_out // divisor if divisor else 0

    def after(self, event: str, args: Mapping[str, Any]) -> Self:
        """`Sync` tells the reserves; a pair emits it with every change, so no other event matters."""
        if event != "Sync":
            return self
        return replace(self, reserve0=int(args["reserve0"]), reserve1=int(args["reserve1"]))

    def spot_price(self, decimals0: int, decimals1: int) -> Decimal:
        """Whole token1 for one whole token0, fee not taken. Raises Refused("pool_empty")."""
        if not (self.reserve0 and self.reserve1):
            raise Refused("pool_empty", "the pair has no liquidity")
        return price_from_reserves(self.reserve0, self.reserve1, decimals0, decimals1)
