"""Figures of an equity curve, against values worked out by hand or by another formula."""

import numpy as np
import pytest

from tradingflow.py_worker.backtest import metrics
from tradingflow.py_worker.backtest.chance import Moments, deflated_sharpe, expected_best

DAY = 86_400_000


def days(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int64) * DAY


def test_growth_a_year_of_a_doubling_in_two_years() -> None:
    assert metrics.cagr(np.array([100.0, 200.0]), np.array([0, int(2 * metrics.YEAR_MS)])) == pytest.approx(2**0.5 - 1)


def test_growth_a_year_says_nothing_of_a_few_hours() -> None:
    assert metrics.cagr(np.array([100.0, 101.0]), np.array([0, DAY // 4])) is None


def test_the_deepest_and_the_longest_drawdown() -> None:
    equity = np.array([100.0, 120.0, 90.0, 110.0, 121.0, 120.0, 119.0, 118.0, 117.0])
    worst = metrics.worst_drawdown(equity, days(9))
    assert worst.depth == pytest.approx(0.25)
    assert worst.length_ms == 4 * DAY  # the second one, not made good at the end


def test_sharpe_and_sortino_ratios_of_known_returns() -> None:
    changes = np.array([0.02, -0.01, 0.03, -0.02])
    assert metrics.sharpe(changes, 252) == pytest.approx(0.005 / np.std(changes, ddof=1) * 252**0.5)
    assert metrics.sortino(changes, 252) == pytest.approx(0.005 / ((0.01**2 + 0.02**2) / 4) ** 0.5 * 252**0.5)


def test_ratios_without_any_variation_have_no_value() -> None:
    assert metrics.sharpe(np.zeros(10), 252) is None
    assert metrics.sortino(np.full(10, 0.01), 252) is None


def test_win_rate_and_profit_factor() -> None:
    assert metrics.win_rate([3.0, -1.0, 2.0, -1.0]) == 0.5
    assert metrics.profit_factor([3.0, -1.0, 2.0, -1.0]) == 2.5
    assert metrics.win_rate([]) is None
    assert metrics.profit_factor([1.0]) is None


def test_the_best_of_many_lucky_runs_is_not_better_than_chance() -> None:
    rng = np.random.default_rng(3)
    lucky = [Moments.of(rng.normal(0, 0.01, 500)) for _ in range(200)]
    best = max(lucky, key=lambda run: run.sharpe)
    assert best.sharpe * 500**0.5 > 2  # alone it would look significant
    assert deflated_sharpe(best, [run.sharpe for run in lucky]) < 0.95


def test_real_skill_among_lucky_runs_is_better_than_chance() -> None:
    rng = np.random.default_rng(3)
    runs = [Moments.of(rng.normal(0, 0.01, 500)) for _ in range(50)]
    skilled = Moments.of(rng.normal(0.004, 0.01, 500))
    assert deflated_sharpe(skilled, [run.sharpe for run in [*runs, skilled]]) > 0.95


def test_the_luckiest_of_as_many_runs_is_expected_where_a_simulation_finds_it() -> None:
    rng = np.random.default_rng(1)
    sharpes = rng.normal(0, 0.05, (400, 100))
    simulated = float(np.mean(sharpes.max(axis=1)))
    assert expected_best(sharpes[0].tolist()) == pytest.approx(simulated, rel=0.15)
