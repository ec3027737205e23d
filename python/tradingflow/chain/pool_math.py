"""Prices from what Uniswap pools store. Pure.

A V3 pool keeps sqrt(token1 / token0) in base units as a Q64.96 number (whitepaper v3, section 6.1); a tick t means
the price 1.0001^t. Token decimals turn base units into whole tokens.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal, localcontext
from math import isqrt

Q96 = 2**96
TICK_BASE = Decimal("1.0001")
# A uint160 squared has 97 digits; with 2^192 below it and decimals up to 36 this keeps every digit that counts.
WORKING_DIGITS = 160
# More digits than any market has, few enough to read.
PRICE_DIGITS = 30


def price_from_sqrt(sqrt_price_x96: int, decimals0: int, decimals1: int) -> Decimal:
    """Whole token1 for one whole token0."""
    with localcontext() as context:
        context.prec = WORKING_DIGITS
        return _shown(Decimal(sqrt_price_x96**2) / Decimal(Q96**2) * Decimal(10) ** (decimals0 - decimals1))


def price_from_tick(tick: int, decimals0: int, decimals1: int) -> Decimal:
    """Whole token1 for one whole token0."""
    with localcontext() as context:
        context.prec = PRICE_DIGITS + 10
        return _shown(TICK_BASE**tick * Decimal(10) ** (decimals0 - decimals1))


def price_from_reserves(reserve0: int, reserve1: int, decimals0: int, decimals1: int) -> Decimal:
    """Whole token1 for one whole token0 in a V2 pair. Raises ZeroDivisionError for an empty pair."""
    with localcontext() as context:
        context.prec = WORKING_DIGITS
        return _shown(Decimal(reserve1) / Decimal(reserve0) * Decimal(10) ** (decimals0 - decimals1))


def default_base(token0: str, token1: str, quote_token: str | None) -> str:
    """The token a pool's price is of where nobody says which: not the chain's quote token, else token0."""
    return token1 if token0 == quote_token else token0


def invert(price: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = WORKING_DIGITS
        return _shown(1 / price)


def sqrt_from_price(price: Decimal, decimals0: int, decimals1: int) -> int:
    """The Q64.96 number a pool with `price` whole token1 for one whole token0 would store, rounded down."""
    with localcontext() as context:
        context.prec = WORKING_DIGITS
        raw = price * Decimal(10) ** (decimals1 - decimals0) * Decimal(Q96**2)
        return isqrt(int(raw.to_integral_value(rounding=ROUND_FLOOR)))


def mean_tick(cumulative_then: int, cumulative_now: int, seconds: int) -> int:
    """Arithmetic mean tick, rounded towards minus infinity as Uniswap's OracleLibrary does."""
    return (cumulative_now - cumulative_then) // seconds


def v2_amount_out(amount_in: int, reserve_in: int, reserve_out: int) -> int:
    """What a V2 pair pays out, its 0.3 % fee taken (UniswapV2Library.getAmountOut)."""
    with_fee = amount_in * 997
    return with_fee * reserve_out // (reserve_in * 1000 + with_fee)


def rate(amount_in: int, decimals_in: int, amount_out: int, decimals_out: int) -> Decimal:
    """Whole token out for one whole token in."""
    with localcontext() as context:
        context.prec = WORKING_DIGITS
        return _shown(Decimal(amount_out).scaleb(-decimals_out) / Decimal(amount_in).scaleb(-decimals_in))


def _shown(price: Decimal) -> Decimal:
    with localcontext() as context:
        context.prec = PRICE_DIGITS
        return (+price).normalize() if price else price
