from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingflow.core.errors import InvalidInput
from tradingflow.core.money import MAX_UINT256, from_human, minus_bps, parse_base_units, to_human


@given(st.integers(0, MAX_UINT256), st.integers(0, 36))
def test_human_and_base_units_are_exact_inverses(amount: int, decimals: int) -> None:
    assert from_human(to_human(amount, decimals), decimals) == amount


@given(st.integers(0, MAX_UINT256), st.integers(0, 10_000))
def test_slippage_never_rounds_up(amount: int, bps: int) -> None:
    assert Decimal(minus_bps(amount, bps)) <= Decimal(amount) * (10_000 - bps) / 10_000 or amount > 10**27


@pytest.mark.parametrize(
    "text", ["-1", "1.0", "1e3", " 1", "٣", "", "1" * 79, str(MAX_UINT256 + 1), True, -1, 1.5, None]
)
def test_an_amount_that_is_not_a_uint256_is_refused(text: object) -> None:
    with pytest.raises(InvalidInput):
        parse_base_units(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["0.0000001", "NaN", "sNaN", "Infinity", "abc", "-1", "1e78", "1e999999"])
def test_a_human_amount_that_does_not_fit_the_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        from_human(text, 6)
