"""Figures of an equity curve and of the trades behind it. Doubles: statistics, not money.

A return is the relative change of equity from one point of the curve to the next; the risk-free rate is taken as zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tradingflow.py_worker.backtest.candles import Floats, Times

YEAR_MS = 365.25 * 86_400_000


@dataclass(frozen=True)
class Drawdown:
    """`depth` is the largest fall from a peak as a share of it; `length_ms` the longest time below a peak."""

    depth: float
    length_ms: int


def returns(equity: Floats) -> Floats:
    """Simple returns; zero where there was nothing to grow."""
    before = equity[:-1]
    return np.divide(equity[1:], before, out=np.ones(len(before)), where=before > 0) - 1


def total_return(equity: Floats) -> float:
    return float(equity[-1] / equity[0] - 1) if len(equity) and equity[0] > 0 else 0.0


def cagr(equity: Floats, times: Times) -> float | None:
    """Compound annual growth rate: (end / start)^(1 / years) - 1, with years of 365.25 days.

    None for a span that says nothing of a year (under a day), or a rate no double can hold.
    """
    years = (int(times[-1]) - int(times[0])) / YEAR_MS if len(times) else 0.0
    if years * 365.25 < 1 or equity[0] <= 0:
        return None
    if equity[-1] <= 0:
        return -1.0
    exponent = math.log(equity[-1] / equity[0]) / years
    return math.expm1(exponent) if exponent < 700 else None


def periods_a_year(times: Times) -> float:
    """How many returns a year holds, from the mean distance of the points."""
    return YEAR_MS * (len(times) - 1) / (int(times[-1]) - int(times[0])) if len(times) > 1 else 0.0


def volatility(changes: Floats, a_year: float) -> float:
    """Annualised standard deviation of returns: sample deviation times the root of the periods a year."""
    return float(np.std(changes, ddof=1) * math.sqrt(a_year)) if len(changes) > 1 else 0.0


def sharpe(changes: Floats, a_year: float) -> float | None:
    """Annualised Sharpe ratio: mean over sample deviation, times the root of the periods a year.

    Sharpe, "The Sharpe Ratio", Journal of Portfolio Management 21 (1994). None without any variation.
    """
    deviation = float(np.std(changes, ddof=1)) if len(changes) > 1 else 0.0
    return float(np.mean(changes)) / deviation * math.sqrt(a_year) if deviation > 0 else None


def sortino(changes: Floats, a_year: float) -> float | None:
    """Annualised Sortino ratio with target zero: mean over the root mean square of the losses among all returns.

    Sortino and Price, "Performance Measurement in a Downside Risk Framework", Journal of Investing 3 (1994).
    None without a loss.
    """
    downside = math.sqrt(float(np.mean(np.minimum(changes, 0) ** 2))) if len(changes) else 0.0
    return float(np.mean(changes)) / downside * math.sqrt(a_year) if downside > 0 else None


def drawdowns(equity: Floats) -> Floats:
    """How far below its peak so far equity is at each point, as a share of the peak (0 or negative)."""
    peaks = np.maximum.accumulate(equity)
    return np.divide(equity, peaks, out=np.ones(len(equity)), where=peaks > 0) - 1


def worst_drawdown(equity: Floats, times: Times) -> Drawdown:
    """The deepest and the longest; one that has not been made good counts up to the end."""
    below = drawdowns(equity)
    at_peak = np.flatnonzero(below >= 0)
    peak_times = np.append(times[at_peak], times[-1])
    return Drawdown(float(-below.min()), int(np.diff(peak_times).max()) if len(peak_times) > 1 else 0)


def win_rate(profits: Sequence[float]) -> float | None:
    """Share of closed trades with a profit after fees; None without a closed trade."""
    return sum(profit > 0 for profit in profits) / len(profits) if profits else None


def profit_factor(profits: Sequence[float]) -> float | None:
    """Gross profit over gross loss of closed trades; None without a loss."""
    lost = -sum(profit for profit in profits if profit < 0)
    return sum(profit for profit in profits if profit > 0) / lost if lost > 0 else None
