"""When several sources make one price."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tradingflow.prices.agreement import Quote, agree

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MAX_AGE = timedelta(seconds=60)


def quote(source: str, price: str | None, *, age_s: int = 0, origin: str | None = None) -> Quote:
    as_of = NOW - timedelta(seconds=age_s)
    return Quote(
        source, origin or source, None if price is None else Decimal(price), as_of, "down" if price is None else None
    )


@pytest.mark.parametrize(
    ("prices", "agreed", "reason"),
    [
        (("100", "102"), "101", None),
        (("100", "102.0000001"), None, "sources_differ"),
        (("100", "100", "103"), None, "sources_differ"),
        (("100", None), None, "too_few_sources"),
        ((None, None), None, "too_few_sources"),
        (("0", "0"), None, "sources_differ"),
        (("1e-30", "1.01e-30"), "1.005e-30", None),
    ],
)
def test_a_price_needs_two_sources_within_two_percent(
    prices: tuple[str | None, ...], agreed: str | None, reason: str | None
) -> None:
    found = agree([quote(name, price) for name, price in zip("abc", prices, strict=False)], NOW, MAX_AGE)
    assert (found.price, found.reason) == (None if agreed is None else Decimal(agreed), reason)


def test_a_stale_source_does_not_count_and_is_named() -> None:
    fresh = agree([quote("a", "100"), quote("b", "100", age_s=60), quote("c", "200", age_s=61)], NOW, MAX_AGE)
    assert (fresh.price, fresh.as_of) == (Decimal(100), NOW - timedelta(seconds=60))
    stale = agree([quote("a", "100"), quote("b", "100", age_s=61)], NOW, MAX_AGE)
    assert (stale.price, stale.reason) == (None, "stale")
    assert stale.detail is not None
    assert "b: stale" in stale.detail
    assert [q.reason for q in stale.quotes] == [None, "stale"]


def test_two_sources_of_one_origin_do_not_vouch_for_each_other_when_another_origin_is_silent() -> None:
    pools = [quote("pool_spot", "100", origin="pools"), quote("pool_mean", "100", origin="pools")]
    assert agree(pools, NOW, MAX_AGE).price == Decimal(100)
    assert agree([*pools, quote("coingecko", None)], NOW, MAX_AGE).reason == "too_few_sources"
    assert agree([*pools, quote("coingecko", "101", age_s=600)], NOW, MAX_AGE).reason == "stale"
    assert agree([*pools, quote("coingecko", "103")], NOW, MAX_AGE).reason == "sources_differ"


def test_one_source_is_never_enough() -> None:
    alone = [quote("pool_spot", "100", origin="pools")]
    assert agree(alone, NOW, MAX_AGE).reason == "too_few_sources"
    assert agree([*alone, quote("pool_mean", None, origin="pools")], NOW, MAX_AGE).reason == "too_few_sources"


def test_a_quote_from_a_clock_ahead_of_ours_has_no_negative_age() -> None:
    assert quote("a", "1", age_s=-30).age(NOW) == timedelta(0)


def test_a_difference_is_told_with_its_prices() -> None:
    found = agree([quote("pool_spot", "2000"), quote("coingecko", "2100")], NOW, MAX_AGE)
    assert found.detail == "sources are more than 2% apart: pool_spot 2000, coingecko 2100"
