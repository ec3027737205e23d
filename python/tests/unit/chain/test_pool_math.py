import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingflow.chain import pool_math

MIN_SQRT, MAX_SQRT = 4295128739, 1461446703485210103287273052203988822378723970342
MAINNET_LOGS = Path(__file__).parents[5] / "shared/data/mainnet-block-17173049/logs.jsonl"
V3_SWAP = "0xc42079f94a6350d7e6235f29174924f928cc2ac818eb64fed8004e115fbcca67"
decimals = st.integers(0, 36)


def test_the_square_root_of_one_is_the_price_one() -> None:
    assert pool_math.price_from_sqrt(2**96, 18, 18) == 1
    assert pool_math.price_from_sqrt(2**96, 18, 6) == Decimal("1E+12")


def _word(data: str, index: int) -> int:
    return int.from_bytes(bytes.fromhex(data[2:])[32 * index : 32 * (index + 1)], signed=True)


@pytest.mark.skipif(not MAINNET_LOGS.exists(), reason="the real block of ../shared/data is not on this machine")
def test_price_and_tick_of_every_real_swap_agree() -> None:
    """Each V3 `Swap` of a mainnet block carries the pool's price twice: as a square root and as the tick below it."""
    logs = [json.loads(line) for line in MAINNET_LOGS.read_text().splitlines()]
    swaps = [log["data"] for log in logs if log["topics"][0] == V3_SWAP]
    assert len(swaps) == 5
    for data in swaps:
        price = pool_math.price_from_sqrt(_word(data, 2), 18, 18)
        below = pool_math.price_from_tick(_word(data, 4), 18, 18)
        assert below <= price < below * Decimal("1.0001")


@given(st.integers(MIN_SQRT, MAX_SQRT), decimals, decimals)
def test_a_price_written_into_a_pool_reads_back(sqrt_price: int, decimals0: int, decimals1: int) -> None:
    price = pool_math.price_from_sqrt(sqrt_price, decimals0, decimals1)
    back = pool_math.sqrt_from_price(price, decimals0, decimals1)
    assert abs(back - sqrt_price) <= max(1, sqrt_price // 10**25)


@given(st.integers(-887_272, 887_272))
def test_a_tick_is_one_basis_point(tick: int) -> None:
    low, high = pool_math.price_from_tick(tick, 0, 0), pool_math.price_from_tick(tick + 1, 0, 0)
    assert abs(high / low - Decimal("1.0001")) < Decimal("1e-20")


def test_a_mean_tick_below_zero_is_rounded_down_as_the_contracts_do() -> None:
    assert pool_math.mean_tick(0, -301, 60) == -6


def test_a_v2_pair_never_pays_more_than_it_holds() -> None:
    assert pool_math.v2_amount_out(10**30, 1000, 1000) == 999


@given(st.integers(1, 10**40), decimals, st.integers(1, 10**40), decimals)
def test_a_rate_is_exact_to_the_digits_shown(amount_in: int, din: int, amount_out: int, dout: int) -> None:
    rate = pool_math.rate(amount_in, din, amount_out, dout)
    exact = Decimal(amount_out) * Decimal(10) ** (din - dout) / Decimal(amount_in)
    assert abs(rate / exact - 1) < Decimal("1e-26")
