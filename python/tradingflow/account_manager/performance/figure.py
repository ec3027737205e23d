"""A number, or why it cannot be known. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from tradingflow.core.money import EXACT


@dataclass(frozen=True)
class Figure:
    """`value` in whole quote tokens, or a ratio; None, never 0, when it cannot be known, and then `reason` says why."""

    value: Decimal | None
    reason: str | None = None

    @staticmethod
    def unknown(reason: str) -> Figure:
        return Figure(None, reason)

    def minus(self, other: Figure) -> Figure:
        return total((self, other.negated()))

    def negated(self) -> Figure:
        return self if self.value is None else Figure(self.value.copy_negate())


ZERO = Figure(Decimal(0))


def total(figures: Iterable[Figure]) -> Figure:
    """The sum; unknown as soon as one part is."""
    value = Decimal(0)
    for figure in figures:
        if figure.value is None:
            return figure
        value = EXACT.add(value, figure.value)
    return Figure(value)
