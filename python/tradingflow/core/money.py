"""Amounts are integers in base units; prices and human amounts are Decimal; no float comes near either."""

from __future__ import annotations

from decimal import Context, Decimal, InvalidOperation, localcontext

from tradingflow.core.errors import InvalidInput

MAX_UINT256 = 2**256 - 1
BPS = 10_000
# 78 digits hold a uint256, 36 more the finest fraction of a token with 36 decimals.
PRECISION = 120
# Sums and products of amounts and prices are exact within it.
EXACT = Context(prec=PRECISION)


def parse_base_units(text: str | int) -> int:
    """An amount in base units from JSON (decimal string, or an int). Raises InvalidInput."""
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise InvalidInput("invalid_amount", "an amount is a whole number of base units, sent as a string")
    if isinstance(text, str) and not (text.isascii() and text.isdigit() and len(text) <= 78):
        raise InvalidInput("invalid_amount", "an amount is a whole number of base units, sent as a string of digits")
    amount = int(text)
    if not 0 <= amount <= MAX_UINT256:
        raise InvalidInput("invalid_amount", "an amount lies between 0 and 2^256 - 1")
    return amount


def may_fit(amount: Decimal, decimals: int = 0) -> bool:
    """Whether a finite amount may be a uint256 in base units. Ask before int() or scaleb(): of 1e999999 the one makes a
    number of a million digits, for seconds, and the other fails."""
    return amount.is_zero() or amount.adjusted() + decimals <= 77


def to_human(amount: int, decimals: int) -> Decimal:
    """Base units to whole tokens, exactly."""
    with localcontext() as context:
        context.prec = PRECISION
        return Decimal(amount).scaleb(-decimals)


def from_human(text: str | Decimal, decimals: int) -> int:
    """Whole tokens to base units, exactly; more digits than the token has are refused, not rounded."""
    with localcontext() as context:
        context.prec = PRECISION
        try:
            amount = Decimal(text)
        except InvalidOperation as error:
            raise InvalidInput("invalid_amount", f"{text!r} is not a decimal number") from error
        if not amount.is_finite() or not may_fit(amount, decimals):
            raise InvalidInput("invalid_amount", "an amount lies between 0 and 2^256 - 1")
        scaled = amount.scaleb(decimals)
        if scaled != scaled.to_integral_value():
            raise InvalidInput("invalid_amount", f"{text} has more than the {decimals} decimals of this token")
        return parse_base_units(int(scaled))


def minus_bps(amount: int, bps: int) -> int:
    """`amount` less `bps` hundredths of a percent, rounded down. 10,000 bps are the whole."""
    return amount * (BPS - bps) // BPS
