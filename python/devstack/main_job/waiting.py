"""Waiting for something to become true, with an end."""

import time
from collections.abc import Callable
from typing import TypeVar

from devstack.main_job.steps import CheckFailed

Found = TypeVar("Found")
Checked = TypeVar("Checked")
POLL_INTERVAL_S = 0.25


def wait_for(probe: Callable[[], Found | None], what: str, *, timeout_s: float) -> Found:
    """The first answer of `probe` that is not None; raises CheckFailed naming `what` after the time-out."""
    deadline = time.monotonic() + timeout_s
    while (found := probe()) is None:
        if time.monotonic() > deadline:
            raise CheckFailed(f"waited {timeout_s:g} s for {what}, in vain")
        time.sleep(POLL_INTERVAL_S)
    return found


def wait_until_true(check: Callable[[], Checked], *, timeout_s: float) -> Checked:
    """The answer of `check` once it raises CheckFailed no more; its last CheckFailed after the time-out."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return check()
        except CheckFailed:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_INTERVAL_S)
