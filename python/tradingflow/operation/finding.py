"""One thing an operator should know, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `fix` is empty when it is well."""

    check: str
    state: State
    found: str
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def ok(check: str, found: str) -> Finding:
    return Finding(check, State.OK, found)


def warn(check: str, found: str, fix: str) -> Finding:
    return Finding(check, State.WARN, found, fix)


def fail(check: str, found: str, fix: str) -> Finding:
    return Finding(check, State.FAIL, found, fix)


def judge(check: str, found: str, *, well: bool, fix: str, otherwise: State = State.FAIL) -> Finding:
    """A finding that is ok when `well`, and `otherwise` with the fix."""
    return ok(check, found) if well else Finding(check, otherwise, found, fix)
