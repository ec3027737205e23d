"""One step of a Uniswap V3 swap: inside one range of constant liquidity (whitepaper v3, section 6.2.3).

Rounding is always against the swapper, as in v3-core's SwapMath and SqrtPriceMath: in up, out down.
"""

from __future__ import annotations

from typing import NamedTuple

from tradingflow.chain.amm.pool import FEE_DENOMINATOR
from tradingflow.chain.amm.tick_math import Q96
from tradingflow.core.errors import Refused

_UINT256 = 2**256
_UINT160 = 2**160


class Step(NamedTuple):
    """Price reached, what it took without the fee, what it paid, and the fee on top. Amounts in base units."""

    sqrt_price: int
    amount_in: int
    amount_out: int
    fee_amount: int


def exact_in_step(sqrt_price: int, target: int, liquidity: int, remaining: int, fee: int) -> Step:
    """Spend at most `remaining` moving from `sqrt_price` towards `target`, which is not passed."""
    falling = sqrt_price >= target
    cost = token0_between if falling else token1_between
    gain = token1_between if falling else token0_between
    spendable = remaining * (FEE_DENOMINATOR - fee) // FEE_DENOMINATOR
    whole_cost = cost(sqrt_price, target, liquidity, round_up=True)
    if spendable >= whole_cost:
        reached, amount_in = target, whole_cost
    else:
        reached = _price_after(sqrt_price, liquidity, spendable, falling=falling)
        amount_in = whole_cost if reached == target else cost(sqrt_price, reached, liquidity, round_up=True)
    amount_out = gain(sqrt_price, reached, liquidity, round_up=False)
    # What is left over when the target was not reached goes to the pool as fee.
    charged = remaining - amount_in if reached != target else ceil_div(amount_in * fee, FEE_DENOMINATOR - fee)
    return Step(reached, amount_in, amount_out, charged)


def token0_between(price_a: int, price_b: int, liquidity: int, *, round_up: bool) -> int:
    """Token0 that lies between two square-root prices: L * (1/low - 1/high)."""
    low, high = (price_a, price_b) if price_a < price_b else (price_b, price_a)
    scaled = (liquidity << 96) * (high - low)
    if round_up:
        return ceil_div(ceil_div(scaled, high), low)
    return scaled // high // low


def token1_between(price_a: int, price_b: int, liquidity: int, *, round_up: bool) -> int:
    """Token1 that lies between two square-root prices: L * (high - low)."""
    scaled = liquidity * abs(price_a - price_b)
    return ceil_div(scaled, Q96) if round_up else scaled // Q96


def ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


def _price_after(sqrt_price: int, liquidity: int, amount: int, *, falling: bool) -> int:
    """The square-root price after adding `amount` of the token that is sold."""
    if not falling:
        reached = sqrt_price + (amount << 96) // liquidity
        if reached >= _UINT160:
            raise Refused("reverted", "the pool's price cannot rise so far")
        return reached
    if amount == 0:
        return sqrt_price
    scaled, product = liquidity << 96, amount * sqrt_price
    if product < _UINT256 and scaled + product < _UINT256:
        return ceil_div(scaled * sqrt_price, scaled + product)
    # The contract's other formula, for what 256 bits cannot hold.
    return ceil_div(scaled, scaled // sqrt_price + amount)
