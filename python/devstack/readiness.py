"""Waiting for a process to become ready, and saying why when it does not."""

import time
from collections.abc import Callable

from devstack.daemon import Daemon
from devstack.errors import ServerFailed

POLL_INTERVAL_S = 0.05


def wait_until_ready(daemon: Daemon, is_ready: Callable[[], bool], *, timeout_s: float, advice: str) -> None:
    """Return once it is ready.

    Raises ServerFailed, quoting its log, when it ends before or is not ready in time; then it is killed.
    """
    deadline = time.monotonic() + timeout_s
    while not is_ready():
        if not daemon.is_alive:
            raise _failure(daemon, f"ended while starting (exit code {daemon.exit_code})", advice)
        if time.monotonic() > deadline:
            daemon.kill()
            raise _failure(daemon, f"was not ready within {timeout_s:.0f} s", advice)
        time.sleep(POLL_INTERVAL_S)


def _failure(daemon: Daemon, what: str, advice: str) -> ServerFailed:
    return ServerFailed(daemon.name, what, daemon.log_file, daemon.log_tail(), advice)
