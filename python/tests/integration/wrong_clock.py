"""A machine whose clock somebody sets wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tradingflow.core import clock

NEAR = timedelta(seconds=2)


class _DayAhead(datetime):
    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime.now(UTC) + timedelta(days=1)


def step_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this machine believes that it is a day later."""
    monkeypatch.setattr(clock, "datetime", _DayAhead)


def is_now(moment: datetime) -> bool:
    return abs(moment - datetime.now(UTC)) < NEAR
