"""Waiting for something that happens in another process."""

import threading
import time
from collections.abc import Callable

POLL_INTERVAL_S = 0.02


def eventually(holds: Callable[[], bool], timeout_s: float = 20) -> bool:
    """Whether this becomes true within the time-out."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(POLL_INTERVAL_S)
    return True
