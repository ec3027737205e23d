"""Time as a part that is handed in, so that the same code runs live, on paper and in a backtest."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The current time, UTC-aware."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class SteadyClock:
    """The machine's time when it was made, carried on by a counter that nobody can set.

    A step of the machine's clock afterwards (a wrong time server, a mistyped `date`) does not move it.
    """

    def __init__(self) -> None:
        self._set(datetime.now(UTC), time.monotonic())

    def now(self) -> datetime:
        return self._zero + timedelta(seconds=time.monotonic())

    def _set(self, at: datetime, counted: float) -> None:
        """It was `at` when the counter stood at `counted` seconds."""
        self._zero = at - timedelta(seconds=counted)  # one value: threads read it


class SimulatedClock:
    """Stands still until told; never runs backwards."""

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        return self._now

    def advance_to(self, moment: datetime) -> None:
        moment = moment.astimezone(UTC)
        if moment < self._now:
            raise ValueError(f"a simulated clock cannot go back from {self._now} to {moment}")
        self._now = moment
