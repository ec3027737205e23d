"""What cycle_interval may be, and when it fires."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.engine.interval import Cron, Every, Once, parse_interval

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"), [(5, 5), (0.5, 0.5), ("10s", 10), ("5m", 300), ("1h", 3600), ("1d", 86400), ("30", 30)]
)
def test_seconds_and_units(value: Any, seconds: float) -> None:
    assert parse_interval(value) == Every(timedelta(seconds=seconds))


@pytest.mark.parametrize("value", [0, "0", "0s"])
def test_zero_is_once(value: Any) -> None:
    assert parse_interval(value) == Once()


@pytest.mark.parametrize(
    "value",
    [None, True, "", "soon", "-5", -5, "5 m", "5w", "* * * * *", "61 * * * * UTC", "* * * * * Mars/Base",
     "* * * * * * UTC", "1" * 5_000 + " * * * * UTC", "1-" + "1" * 5_000 + " * * * * UTC", "1" * 5_000,
     float("nan"), float("inf"), "1e9", 0.01, "999999d", [], {}, "../../etc/passwd", "* * * * * ../UTC"],
)  # fmt: skip
def test_anything_else_says_what_is_allowed(value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_interval(value)
    assert "cycle_interval" in caught.value.detail


def test_the_grid_skips_what_was_missed() -> None:
    every = Every(timedelta(seconds=10))
    assert every.next_after(START, START + timedelta(seconds=3)) == START + timedelta(seconds=10)
    assert every.next_after(START, START + timedelta(seconds=34)) == START + timedelta(seconds=40)
    assert every.next_after(START, START + timedelta(seconds=40)) == START + timedelta(seconds=50)


def test_a_cron_fires_by_the_clock_of_its_zone() -> None:
    cron = parse_interval("30 9 * * * America/New_York")
    assert isinstance(cron, Cron)
    winter = cron.next_after(START, START)
    assert winter == datetime(2026, 3, 1, 14, 30, tzinfo=UTC)
    after_the_change = cron.next_after(datetime(2026, 3, 9, tzinfo=UTC), datetime(2026, 3, 9, tzinfo=UTC))
    assert after_the_change == datetime(2026, 3, 9, 13, 30, tzinfo=UTC)
