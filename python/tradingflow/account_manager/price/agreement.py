"""When several sources make one price. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, localcontext

from tradingflow.account_manager.price.pools import TokenPrice
from tradingflow.core.money import PRECISION

MIN_SOURCES = 2
# Sources further apart than this: one of them is wrong, or the market is being moved.
MAX_SPREAD = Decimal("0.02")


def agree(sources: Mapping[str, TokenPrice]) -> TokenPrice:
    """The mean of the known prices, or None and why: `too_few_sources` or `sources_differ`."""
    known = {name: quoted.price for name, quoted in sources.items() if quoted.price is not None}
    if len(known) < MIN_SOURCES:
        missing = ", ".join(f"{name}: {quoted.reason}" for name, quoted in sources.items() if quoted.price is None)
        return TokenPrice(None, f"too_few_sources ({missing})")
    low, high = min(known.values()), max(known.values())
    with localcontext() as context:
        context.prec = PRECISION
        if low <= 0 or high - low > MAX_SPREAD * low:
            return TokenPrice(None, "sources_differ")
        return TokenPrice(sum(known.values(), Decimal(0)) / len(known))
