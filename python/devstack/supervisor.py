"""Keeps processes running: one that dies is started again with the same data, and that is said."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from devstack.daemon import Daemon
from devstack.errors import DevstackError

WATCH_INTERVAL_S = 0.2
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
STABLE_AFTER_S = 60.0  # a process that ran this long starts over with the first back-off


class Supervised(Protocol):
    """Anything that can be started, watched and stopped: a data server, a service."""

    @property
    def name(self) -> str: ...
    @property
    def daemon(self) -> Daemon: ...
    @property
    def is_alive(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> bool: ...


class Supervisor:
    """Starts what it is given, watches it in the background, and stops it all at the end.

    `say` receives one line for a person whenever a process dies or comes back; it is called from threads.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._stopping = threading.Event()
        self._watched: list[tuple[Supervised, threading.Thread]] = []

    def start(self, *processes: Supervised) -> None:
        """Start these side by side and watch them from now on; raises the first failure after all have tried."""
        watchers = [
            threading.Thread(target=self._watch, args=(process,), name=f"watch-{process.name}", daemon=True)
            for process in processes
        ]
        self._watched += zip(processes, watchers, strict=True)  # first, so that an interrupted start is stopped, too
        with ThreadPoolExecutor(max_workers=len(processes) or 1) as pool:
            started = [pool.submit(self._start_timed, process) for process in processes]
        for outcome in started:
            outcome.result()
        for watcher in watchers:
            watcher.start()

    def stop(self) -> list[str]:
        """Stop everything side by side; the names of those that had to be killed."""
        self._stopping.set()
        killed = self._stop_all()
        for _, watcher in self._watched:
            if watcher.is_alive():
                watcher.join()
        return sorted({*killed, *self._stop_all()})  # a watcher may have started one in between

    def _start_timed(self, process: Supervised) -> None:
        began = time.monotonic()
        process.start()
        self._say(f"{process.name} ready after {time.monotonic() - began:.1f} s")

    def _stop_all(self) -> list[str]:
        alive = [process for process, _ in self._watched if process.is_alive]
        with ThreadPoolExecutor(max_workers=len(alive) or 1) as pool:
            graceful = list(pool.map(lambda process: process.stop(), alive))
        return [process.name for process, obeyed in zip(alive, graceful, strict=True) if not obeyed]

    def _watch(self, process: Supervised) -> None:
        backoff_s = FIRST_BACKOFF_S
        alive_since = time.monotonic()
        while not self._stopping.wait(WATCH_INTERVAL_S):
            if process.is_alive:
                if time.monotonic() - alive_since > STABLE_AFTER_S:
                    backoff_s = FIRST_BACKOFF_S
                continue
            self._say(f"{process.name} {_ending(process.daemon.exit_code)}; starting it again in {backoff_s:g} s")
            if self._stopping.wait(backoff_s):
                return
            self._start_again(process)
            alive_since = time.monotonic()
            backoff_s = min(backoff_s * 2, LONGEST_BACKOFF_S)

    def _start_again(self, process: Supervised) -> None:
        try:
            self._start_timed(process)
        except DevstackError as problem:
            if not self._stopping.is_set():
                self._say(str(problem))


def _ending(exit_code: int | None) -> str:
    if exit_code is None:
        return "is gone"
    return f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
