"""A Uniswap V3 pool: liquidity in ranges of ticks (whitepaper v3, section 6).

Fees owed to positions are not followed: they never change what a swap pays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Self

from tradingflow.chain.amm.pool import Swapped, sells_token0
from tradingflow.chain.amm.swap_step import exact_in_step
from tradingflow.chain.amm.tick_bitmap import next_tick, words_of
from tradingflow.chain.amm.tick_math import (
    MAX_SQRT_PRICE,
    MAX_TICK,
    MIN_SQRT_PRICE,
    MIN_TICK,
    sqrt_price_at,
    tick_at,
)
from tradingflow.chain.pool_math import price_from_sqrt
from tradingflow.core.errors import InvariantBroken, Refused

MAX_AMOUNT = 2**255 - 1
# Spacing of ticks by fee in hundredths of a basis point, as Uniswap's factories enable them.
TICK_SPACINGS: Mapping[int, int] = {100: 1, 500: 10, 2500: 50, 3000: 60, 10_000: 200}


@dataclass(frozen=True, slots=True)
class TickLiquidity:
    """`gross` is what begins or ends at the tick, `net` what crossing it upwards adds."""

    gross: int
    net: int


@dataclass(frozen=True, slots=True)
class ConcentratedPool:
    """`sqrt_price` in Q64.96 (0: not initialised), `liquidity` active at `tick`, `ticks` the initialised ones."""

    token0: str
    token1: str
    fee: int
    spacing: int
    sqrt_price: int = 0
    tick: int = 0
    liquidity: int = 0
    ticks: Mapping[int, TickLiquidity] = field(default_factory=dict)
    words: Mapping[int, int] | None = None
    """The bitmap of `ticks`; made from them when left out."""

    def __post_init__(self) -> None:
        if self.words is None:
            object.__setattr__(self, "words", words_of(self.ticks, self.spacing))

    def swap(self, token_in: str, amount_in: int) -> Swapped[Self]:
        """As `SwapRouter.exactInput` does for one pool. Raises Refused where the pool reverts."""
        falling = sells_token0(self, token_in)
        limit = MIN_SQRT_PRICE + 1 if falling else MAX_SQRT_PRICE - 1
        if not 0 < amount_in <= MAX_AMOUNT:
            raise Refused("reverted", "the pool swaps amounts between 1 and 2^255 - 1")
        if not self.sqrt_price or (self.sqrt_price <= limit if falling else self.sqrt_price >= limit):
            raise Refused("reverted", "the pool has no price, or none left in this direction")
        walk = _Walk(self, amount_in, falling, limit)
        walk.run()
        if walk.remaining == amount_in:
            raise Refused("reverted", "the pool has no liquidity in this direction")
        pool = replace(self, sqrt_price=walk.sqrt_price, tick=walk.tick, liquidity=walk.liquidity)
        return Swapped(amount_in - walk.remaining, walk.amount_out, pool)

    def quote(self, token_in: str, amount_in: int) -> int:
        """As QuoterV2 answers: what a swap would pay, also when it could not take the whole amount."""
        return self.swap(token_in, amount_in).amount_out

    def after(self, event: str, args: Mapping[str, Any]) -> Self:
        """The pool after `Initialize`, `Mint`, `Burn` or `Swap`; other events change nothing a swap depends on."""
        if event == "Initialize":
            return replace(self, sqrt_price=int(args["sqrtPriceX96"]), tick=int(args["tick"]))
        if event == "Swap":
            price, tick, liquidity = int(args["sqrtPriceX96"]), int(args["tick"]), int(args["liquidity"])
            return replace(self, sqrt_price=price, tick=tick, liquidity=liquidity)
        if event in ("Mint", "Burn"):
            amount = int(args["amount"]) if event == "Mint" else -int(args["amount"])
            return self.with_liquidity(int(args["tickLower"]), int(args["tickUpper"]), amount)
        return self

    def with_liquidity(self, lower: int, upper: int, amount: int) -> Self:
        """The pool with `amount` more (or, negative, less) liquidity between two ticks."""
        if amount == 0:
            return self
        ticks = dict(self.ticks)
        _change(ticks, lower, amount, amount)
        _change(ticks, upper, amount, -amount)
        is_active = lower <= self.tick < upper
        liquidity = self.liquidity + amount if is_active else self.liquidity
        return replace(self, ticks=ticks, liquidity=liquidity, words=None)

    def spot_price(self, decimals0: int, decimals1: int) -> Decimal:
        """Whole token1 for one whole token0, fee not taken. Raises Refused("pool_empty")."""
        if not self.sqrt_price:
            raise Refused("pool_empty", "the pool has no price yet")
        return price_from_sqrt(self.sqrt_price, decimals0, decimals1)


class _Walk:
    """A swap under way through the ranges of a pool."""

    def __init__(self, pool: ConcentratedPool, amount_in: int, falling: bool, limit: int) -> None:
        self._pool = pool
        self._words = pool.words or {}
        self._falling = falling
        self._limit = limit
        self.sqrt_price = pool.sqrt_price
        self.tick = pool.tick
        self.liquidity = pool.liquidity
        self.remaining = amount_in
        self.amount_out = 0

    def run(self) -> None:
        while self.remaining and self.sqrt_price != self._limit:
            self._step()

    def _step(self) -> None:
        edge, is_initialised = next_tick(self._words, self.tick, self._pool.spacing, falling=self._falling)
        edge = min(max(edge, MIN_TICK), MAX_TICK)
        edge_price = sqrt_price_at(edge)
        target = max(edge_price, self._limit) if self._falling else min(edge_price, self._limit)
        step = exact_in_step(self.sqrt_price, target, self.liquidity, self.remaining, self._pool.fee)
        self.remaining -= step.amount_in + step.fee_amount
        self.amount_out += step.amount_out
        before, self.sqrt_price = self.sqrt_price, step.sqrt_price
        if step.sqrt_price == edge_price:
            self._cross(edge, is_initialised)
        elif step.sqrt_price != before:
            self.tick = tick_at(step.sqrt_price)

    def _cross(self, edge: int, is_initialised: bool) -> None:
        if is_initialised:
            net = self._pool.ticks[edge].net
            self.liquidity += -net if self._falling else net
        self.tick = edge - 1 if self._falling else edge


def _change(ticks: dict[int, TickLiquidity], tick: int, gross: int, net: int) -> None:
    known = ticks.get(tick, TickLiquidity(0, 0))
    changed = TickLiquidity(known.gross + gross, known.net + net)
    if changed.gross < 0:
        raise InvariantBroken("liquidity_missing", f"tick {tick} has less liquidity than is taken from it")
    if changed.gross:
        ticks[tick] = changed
    else:
        del ticks[tick]
