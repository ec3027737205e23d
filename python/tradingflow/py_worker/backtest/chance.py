"""Is the best of many tries better than the best of as many lucky ones?

Bailey and López de Prado, "The Deflated Sharpe Ratio", Journal of Portfolio Management 40 (2014). Sharpe ratios are per
period here, not annualised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tradingflow.py_worker.backtest.candles import Floats

EULER_MASCHERONI = 0.5772156649015329
CONFIDENCE = 0.95
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Moments:
    """Of a run's returns: count, Sharpe ratio per period, skewness and kurtosis (3 for a normal distribution)."""

    count: int
    sharpe: float
    skewness: float
    kurtosis: float

    @staticmethod
    def of(changes: Floats) -> Moments:
        deviation = float(np.std(changes)) if len(changes) > 1 else 0.0
        if deviation == 0:
            return Moments(len(changes), 0.0, 0.0, 3.0)
        scaled = (changes - np.mean(changes)) / deviation
        sharpe = float(np.mean(changes) / np.std(changes, ddof=1))
        return Moments(len(changes), sharpe, float(np.mean(scaled**3)), float(np.mean(scaled**4)))


def expected_best(sharpes: Sequence[float]) -> float:
    """The Sharpe ratio the best of as many runs without any skill is expected to reach (equation 1 of the paper)."""
    runs = len(sharpes)
    if runs < 2:
        return 0.0
    spread = math.sqrt(float(np.var(sharpes, ddof=1)))
    first, second = _NORMAL.inv_cdf(1 - 1 / runs), _NORMAL.inv_cdf(1 - 1 / (runs * math.e))
    return spread * ((1 - EULER_MASCHERONI) * first + EULER_MASCHERONI * second)


def deflated_sharpe(best: Moments, sharpes: Sequence[float]) -> float:
    """Probability that the best run's true Sharpe ratio is above what luck among so many runs reaches (equation 2)."""
    if best.count < 2:
        return 0.0
    variance = 1 - best.skewness * best.sharpe + (best.kurtosis - 1) / 4 * best.sharpe**2
    excess = best.sharpe - expected_best(sharpes)
    return _NORMAL.cdf(excess * math.sqrt(best.count - 1) / math.sqrt(max(variance, 1e-12)))
