"""Ticks and square-root prices of Uniswap V3, bit for bit (whitepaper v3, section 6.1; v3-core TickMath).

A tick t stands for the price 1.0001^t; prices are kept as square roots in Q64.96.
"""

from __future__ import annotations

from functools import lru_cache
from math import floor, log

MIN_TICK = -887_272
MAX_TICK = 887_272
MIN_SQRT_PRICE = 4_295_128_739
MAX_SQRT_PRICE = 1_461_446_703_485_210_103_287_273_052_203_988_822_378_723_970_342
Q96 = 2**96

# 1.0001^(-2^i / 2) in Q128.128, one for each bit i of a tick, rounded as the contract rounds them.
_POWERS = (
    0xFFFCB933BD6FAD37AA2D162D1A594001,
    0xFFF97272373D413259A46990580E213A,
    0xFFF2E50F5F656932EF12357CF3C7FDCC,
    0xFFE5CACA7E10E4E61C3624EAA0941CD0,
    0xFFCB9843D60F6159C9DB58835C926644,
    0xFF973B41FA98C081472E6896DFB254C0,
    0xFF2EA16466C96A3843EC78B326B52861,
    0xFE5DEE046A99A2A811C461F1969C3053,
    0xFCBE86C7900A88AEDCFFC83B479AA3A4,
    0xF987A7253AC413176F2B074CF7815E54,
    0xF3392B0822B70005940C7A398E4B70F3,
    0xE7159475A2C29B7443B29C7FA6E889D9,
    0xD097F3BDFD2022B8845AD8F792AA5825,
    0xA9F746462D870FDF8A65DC1F90E061E5,
    0x70D869A156D2A1B890BB3DF62BAF32F7,
    0x31BE135F97D08FD981231505542FCFA6,
    0x9AA508B5B7A84E1C677DE54F3E99BC9,
    0x5D6AF8DEDB81196699C329225EE604,
    0x2216E584F5FA1EA926041BEDFE98,
    0x48A170391F7DC42444E8FA2,
)
_LOG_BASE = log(1.0001)
_MAX_UINT256 = 2**256 - 1


@lru_cache(maxsize=65_536)
def sqrt_price_at(tick: int) -> int:
    """The square-root price of a tick, rounded up to Q64.96. Raises ValueError outside MIN_TICK … MAX_TICK."""
    size = abs(tick)
    if size > MAX_TICK:
        raise ValueError(f"a tick lies between {MIN_TICK} and {MAX_TICK}")
    ratio = 1 << 128
    for bit, power in enumerate(_POWERS):
        if size >> bit & 1:
            ratio = ratio * power >> 128
    if tick > 0:
        ratio = _MAX_UINT256 // ratio
    return -(-ratio >> 32)


def tick_at(sqrt_price: int) -> int:
    """The greatest tick whose square-root price is at most `sqrt_price`. Raises ValueError outside the prices."""
    if not MIN_SQRT_PRICE <= sqrt_price < MAX_SQRT_PRICE:
        raise ValueError("no tick has such a price")
    # The estimate is right to far less than a tick; the exact comparison below decides.
    tick = min(max(floor(2 * log(sqrt_price / Q96) / _LOG_BASE), MIN_TICK), MAX_TICK - 1)
    while sqrt_price_at(tick) > sqrt_price:
        tick -= 1
    while tick < MAX_TICK and sqrt_price_at(tick + 1) <= sqrt_price:
        tick += 1
    return tick
