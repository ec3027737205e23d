"""What becomes of a due schedule: overlap and misfire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tradingflow.py_worker.engine.interval import Every, Once
from tradingflow.py_worker.scheduler import Firing, plan_firing

DUE = datetime(2026, 1, 1, tzinfo=UTC)
EVERY = Every(timedelta(seconds=60))
ON_TIME = DUE + timedelta(seconds=1)
LATE = DUE + timedelta(seconds=190)
NEXT = DUE + timedelta(seconds=60)
NEXT_AFTER_LATE = DUE + timedelta(seconds=240)


def plan(now: datetime, *, overlap: str = "skip", misfire: str = "once", is_open: bool = False) -> Firing:
    return plan_firing(EVERY, DUE, now, overlap=overlap, misfire=misfire, is_open=is_open)


def test_a_due_schedule_fires_and_stays_on_its_grid() -> None:
    assert plan(ON_TIME) == Firing(True, NEXT)


def test_skip_leaves_a_fire_time_out_while_a_cycle_is_open_and_replace_does_not() -> None:
    assert plan(ON_TIME, is_open=True) == Firing(False, NEXT)
    assert plan(ON_TIME, is_open=True, overlap="replace") == Firing(True, NEXT)


def test_missed_fire_times_are_skipped_made_up_once_or_all() -> None:
    assert plan(LATE, misfire="skip") == Firing(False, NEXT_AFTER_LATE)
    assert plan(LATE, misfire="once") == Firing(True, NEXT_AFTER_LATE)
    assert plan(LATE, misfire="all") == Firing(True, NEXT)


def test_once_fires_however_late_and_never_again() -> None:
    assert plan_firing(Once(), DUE, LATE, overlap="skip", misfire="skip", is_open=False) == Firing(True, None)


def test_once_waits_for_the_open_cycle_instead_of_being_lost() -> None:
    assert plan_firing(Once(), DUE, ON_TIME, overlap="skip", misfire="once", is_open=True) == Firing(False, DUE)
    assert plan_firing(Once(), DUE, ON_TIME, overlap="replace", misfire="once", is_open=True) == Firing(True, None)
