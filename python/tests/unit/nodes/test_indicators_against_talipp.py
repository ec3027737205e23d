"""A second opinion on indicators: talipp computes them tick by tick."""

import math
from typing import Any

import pytest
from talipp.indicators import BB, EMA, RSI, SMA, WMA

from tradingflow.py_worker.kit.indicators import compute
from tradingflow.py_worker.kit.series import columns_of

WALK = [100 + 10 * math.sin(i / 7) + (i * 37 % 11) for i in range(300)]


@pytest.mark.parametrize(("name", "second"), [("SMA", SMA), ("EMA", EMA), ("WMA", WMA), ("RSI", RSI)])
def test_our_values_are_those_of_talipp(name: str, second: Any) -> None:
    ours = compute(name, {"timeperiod": 14}, columns_of(WALK))["real"]
    theirs = list(second(14, WALK))
    compared = [(a, b) for a, b in zip(ours, theirs, strict=True) if b is not None and not math.isnan(a)]
    assert len(compared) > 280
    assert all(abs(a - b) < 1e-9 for a, b in compared)


def test_our_bands_are_those_of_talipp() -> None:
    ours = compute("BBANDS", {"timeperiod": 20, "nbdevup": 2.0, "nbdevdn": 2.0}, columns_of(WALK))
    theirs = list(BB(20, 2.0, WALK))
    assert abs(ours["upperband"][-1] - theirs[-1].ub) < 1e-9
    assert abs(ours["lowerband"][-1] - theirs[-1].lb) < 1e-9
