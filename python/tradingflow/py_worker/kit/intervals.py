"""Lengths of candles, as exchanges write them: 1s, 5m, 1h, 1d, 1w."""

from __future__ import annotations

import re

from tradingflow.core.errors import InvalidInput

WEEK_MS = 604_800_000
_INTERVAL = re.compile(r"(\d{1,3})([smhdw])")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": WEEK_MS}


def interval_ms(interval: str) -> int:
    """Length of a candle in milliseconds. Raises InvalidInput; calendar months have no fixed length."""
    found = _INTERVAL.fullmatch(interval)
    if found is None or int(found[1]) == 0:
        raise InvalidInput("invalid_interval", f"{interval!r} is no candle interval; allowed: 1s, 5m, 1h, 1d, 1w")
    return int(found[1]) * _UNIT_MS[found[2]]


def interval_name(length_ms: int) -> str:
    """The inverse of `interval_ms`, in the largest unit that fits."""
    unit = next(unit for unit in "wdhms" if length_ms % _UNIT_MS[unit] == 0)
    return f"{length_ms // _UNIT_MS[unit]}{unit}"
