"""Time-weighted return and drawdown. Pure.

A time-weighted return chains the returns between external flows, so that when and how much was paid in does not count
(GIPS standards 2020, provision 2.A.21 and its glossary): (1 + R) = product of value before a flow / value after the one
before. Drawdown is the largest fall of that index from a peak, as a share of the peak (Magdon-Ismail and Atiya,
"Maximum Drawdown", Risk 17(10), 2004); measured at the points given, it may have been deeper in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Context, Decimal

from tradingflow.account_manager.performance.figure import Figure
from tradingflow.core.money import EXACT

# Far more than a ratio of money is worth, so that thousands of factors leave no trace of rounding.
_CONTEXT = Context(prec=60)
RATIO_DIGITS = Decimal("1e-18")
LARGEST_RATIO_DIGITS = 100


@dataclass(frozen=True)
class Point:
    """What was there just before `paid_in` came (below zero: went). Zero for a mere look."""

    value: Figure
    paid_in: Figure


@dataclass(frozen=True)
class Returns:
    """Ratios: 0.05 is five percent."""

    time_weighted: Figure
    max_drawdown: Figure


def returns(points: Iterable[Point]) -> Returns:
    """Of points in the order of time. Nothing is earned while nothing is there."""
    growth = peak = Decimal(1)
    drawdown = Decimal(0)
    for factor in _factors(points):
        if factor.value is None:
            return Returns(factor, factor)
        growth = _CONTEXT.multiply(growth, factor.value)
        peak = max(peak, growth)
        drawdown = max(drawdown, _CONTEXT.divide(_CONTEXT.subtract(peak, growth), peak))
    return Returns(_ratio(_CONTEXT.subtract(growth, Decimal(1))), _ratio(drawdown))


def _factors(points: Iterable[Point]) -> Iterator[Figure]:
    """Value before a point / value after the one before. A loss of everything is a factor of 0."""
    after = Decimal(0)
    for point in points:
        if point.value.value is None:
            yield point.value
            return
        if after > 0:
            yield Figure(_CONTEXT.divide(point.value.value, after))
        if point.paid_in.value is None:
            yield point.paid_in
            return
        after = _CONTEXT.add(point.value.value, point.paid_in.value)


def _ratio(value: Decimal) -> Figure:
    if value.adjusted() >= LARGEST_RATIO_DIGITS:
        return Figure.unknown("out_of_range: prices this far apart are no prices")
    return Figure(value.quantize(RATIO_DIGITS, context=EXACT))
