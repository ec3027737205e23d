"""Uniswap V3's arithmetic on its own; what the real contracts answer is compared in the integration tests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingflow.chain.amm.concentrated import ConcentratedPool
from tradingflow.chain.amm.tick_bitmap import next_tick, ticks_of, words_of
from tradingflow.chain.amm.tick_math import (
    MAX_SQRT_PRICE,
    MAX_TICK,
    MIN_SQRT_PRICE,
    MIN_TICK,
    Q96,
    sqrt_price_at,
    tick_at,
)
from tradingflow.core.errors import InvariantBroken, Refused
from tradingflow.core.evm import address_from_bytes

LOW, HIGH = address_from_bytes(b"\1" * 20), address_from_bytes(b"\2" * 20)
ticks = st.integers(MIN_TICK, MAX_TICK)


def test_the_ends_and_the_middle_of_the_ticks_are_the_contracts() -> None:
    assert sqrt_price_at(MIN_TICK) == MIN_SQRT_PRICE
    assert sqrt_price_at(MAX_TICK) == MAX_SQRT_PRICE
    assert sqrt_price_at(0) == Q96


@given(ticks)
def test_prices_rise_with_ticks_and_lead_back_to_them(tick: int) -> None:
    if tick < MAX_TICK:
        price = sqrt_price_at(tick)
        assert price < sqrt_price_at(tick + 1)
        assert tick_at(price) == tick
        assert tick_at(sqrt_price_at(tick + 1) - 1) == tick


@given(st.integers(MIN_SQRT_PRICE, MAX_SQRT_PRICE - 1))
def test_a_price_lies_between_its_tick_and_the_next(price: int) -> None:
    tick = tick_at(price)
    assert sqrt_price_at(tick) <= price < sqrt_price_at(tick + 1)


@given(st.sets(st.integers(-3_000, 3_000), max_size=30), st.integers(-200_000, 200_000), st.booleans())
def test_the_next_tick_is_the_nearest_of_the_same_word(compressed: set[int], tick: int, falling: bool) -> None:
    spacing = 60
    initialised = {c * spacing for c in compressed}
    words = words_of(initialised, spacing)
    assert ticks_of(words, spacing) == sorted(initialised)
    found, is_initialised = next_tick(words, tick, spacing, falling=falling)
    start = tick // spacing if falling else tick // spacing + 1
    same_word = [c for c in compressed if c // 256 == start // 256 and (c <= start if falling else c >= start)]
    if same_word:
        assert (found, is_initialised) == ((max if falling else min)(same_word) * spacing, True)
    else:
        assert (found, is_initialised) == ((start // 256 * 256 + (0 if falling else 255)) * spacing, False)


def events(*told: tuple[str, dict[str, Any]]) -> ConcentratedPool:
    pool = ConcentratedPool(LOW, HIGH, 3000, 60)
    for name, args in told:
        pool = pool.after(name, args)
    return pool


OPENED = ("Initialize", {"sqrtPriceX96": str(Q96), "tick": "0"})
WIDE = ("Mint", {"tickLower": "-600", "tickUpper": "600", "amount": str(10**24)})


def test_liquidity_added_and_taken_away_leaves_the_pool_as_it_was() -> None:
    away = ("Burn", {"tickLower": "-600", "tickUpper": "600", "amount": str(10**24)})
    assert events(OPENED, WIDE, away) == events(OPENED)
    assert events(OPENED, WIDE).liquidity == 10**24


def test_liquidity_outside_the_price_waits_until_the_price_is_there() -> None:
    above = ("Mint", {"tickLower": "60", "tickUpper": "120", "amount": str(10**24)})
    pool = events(OPENED, WIDE, above)
    assert pool.liquidity == 10**24
    moved = pool.swap(HIGH, 5 * 10**21).pool
    assert moved.tick in range(60, 120)
    assert moved.liquidity == 2 * 10**24


def test_taking_away_what_was_never_there_is_noticed() -> None:
    with pytest.raises(InvariantBroken, match="liquidity_missing"):
        events(OPENED, ("Burn", {"tickLower": "-60", "tickUpper": "60", "amount": "1"}))


def test_a_pool_takes_no_more_than_its_liquidity_is_worth() -> None:
    swapped = events(OPENED, WIDE).swap(LOW, 10**30)
    assert swapped.amount_in < 10**30
    assert swapped.pool.liquidity == 0
    with pytest.raises(Refused, match="reverted"):
        swapped.pool.swap(LOW, 1)


def test_a_pool_without_liquidity_in_a_direction_refuses_and_pays_the_other_way() -> None:
    below = ("Mint", {"tickLower": "-600", "tickUpper": "-60", "amount": str(10**24)})
    pool = events(OPENED, below)
    with pytest.raises(Refused, match="reverted"):
        pool.swap(HIGH, 10**20)
    assert pool.swap(LOW, 10**20).amount_out > 0


@pytest.mark.parametrize("amount", [0, -1, 2**255])
def test_amounts_no_pool_takes_are_refused(amount: int) -> None:
    with pytest.raises(Refused, match="reverted"):
        events(OPENED, WIDE).swap(LOW, amount)


def test_a_pool_without_price_or_of_other_tokens_refuses() -> None:
    with pytest.raises(Refused, match="reverted"):
        events().swap(LOW, 1)
    with pytest.raises(Refused, match="token_not_in_pool"):
        events(OPENED, WIDE).swap(address_from_bytes(b"\3" * 20), 1)
