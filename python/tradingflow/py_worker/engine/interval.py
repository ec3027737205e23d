"""`cycle_interval`: when a flow's cycles start.

Seconds as a number, `10s 5m 1h 1d`, `0` for once, or a 5-field cron expression with an IANA time zone behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from tradingflow.core.errors import InvalidInput
from tradingflow.core.schedule import ONCE

ALLOWED = (
    "cycle_interval is seconds as a number, `10s`, `5m`, `1h` or `1d`, `0` for once, "
    "or a 5-field cron with a time zone such as `*/5 * * * * Europe/Berlin`"
)
MIN_INTERVAL_S = 0.1
MAX_INTERVAL_S = 366 * 86_400
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
# A cron may have nothing to say for years (29 February); one that says nothing for longer never will.
CRON_FIELDS = 5


@dataclass(frozen=True, slots=True)
class Once:
    """One cycle, now."""

    def step(self, fired: datetime) -> datetime | None:
        return None

    def next_after(self, fired: datetime, now: datetime) -> datetime | None:
        return None


@dataclass(frozen=True, slots=True)
class Every:
    """Cycles on a fixed grid: start, start + period, …"""

    period: timedelta

    def next_after(self, fired: datetime, now: datetime) -> datetime | None:
        """The first grid time after both `fired` and `now`."""
        following = fired + self.period
        if following <= now:
            missed = (now - fired) // self.period
            following = fired + (missed + 1) * self.period
        return following

    def step(self, fired: datetime) -> datetime | None:
        """The grid time right after `fired`, even when it has passed."""
        return fired + self.period


@dataclass(frozen=True, slots=True)
class Cron:
    """Wall-clock times of a zone. Daylight-saving gaps and repeats follow Debian's cron (see cronsim)."""

    expression: str
    zone: str

    def next_after(self, fired: datetime, now: datetime) -> datetime | None:
        return self.step(max(fired, now))

    def step(self, fired: datetime) -> datetime | None:
        local = fired.astimezone(ZoneInfo(self.zone))
        try:
            return next(CronSim(self.expression, local)).astimezone(UTC)
        except StopIteration:
            return None


Interval = Once | Every | Cron


def parse_interval(value: Any) -> Interval:
    """Raises InvalidInput saying what is allowed; never falls back to a default."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _invalid()
    text = str(value).strip()
    if (simple := _COUNT.fullmatch(text)) is not None:
        return _every(float(simple[1]) * _UNITS[simple[2] or "s"])
    return _cron(text)


def interval_text(value: float | str) -> str:
    """What is stored of an interval. Raises as `parse_interval`."""
    return ONCE if isinstance(parse_interval(value), Once) else str(value)


def _every(seconds: float) -> Interval:
    if seconds == 0:
        return Once()
    if not MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
        raise InvalidInput("invalid_interval", f"cycle_interval lies between {MIN_INTERVAL_S} s and 366 days")
    return Every(timedelta(seconds=seconds))


def _cron(text: str) -> Cron:
    fields = text.split()
    if len(fields) != CRON_FIELDS + 1:
        raise _invalid()
    zone = fields.pop()
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput("invalid_interval", f"{zone!r} is not an IANA time zone; {ALLOWED}") from error
    expression = " ".join(fields)
    try:
        CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise InvalidInput("invalid_interval", f"the cron expression is not valid: {error}; {ALLOWED}") from error
    except ValueError as error:  # int() reads no number of more than 4,300 digits
        said = "a number of the cron expression has too many digits"
        raise InvalidInput("invalid_interval", f"{said}; {ALLOWED}") from error
    return Cron(expression, zone)


def _invalid() -> InvalidInput:
    return InvalidInput("invalid_interval", ALLOWED)
