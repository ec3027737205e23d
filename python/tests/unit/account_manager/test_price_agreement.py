"""When several sources make one price."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tradingflow.account_manager.price.agreement import agree
from tradingflow.account_manager.price.pools import TokenPrice


@pytest.mark.parametrize(
    ("prices", "agreed", "reason"),
    [
        (("100", "102"), "101", None),
        (("100", "102.0000001"), None, "sources_differ"),
        (("100", "100", "103"), None, "sources_differ"),
        (("100", None), None, "too_few_sources (b: down)"),
        ((None, None), None, "too_few_sources (a: down, b: down)"),
        (("0", "0"), None, "sources_differ"),
        (("1e-30", "1.01e-30"), "1.005e-30", None),
    ],
)
def test_a_price_needs_two_sources_within_two_percent(
    prices: tuple[str | None, ...], agreed: str | None, reason: str | None
) -> None:
    sources = {
        name: TokenPrice(None, "down") if price is None else TokenPrice(Decimal(price))
        for name, price in zip("abc", prices, strict=False)
    }
    found = agree(sources)
    assert (found.price, found.reason) == (None if agreed is None else Decimal(agreed), reason)
