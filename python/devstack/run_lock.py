"""At most one `make run` in a checkout, and a way for `make stop` to find it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from devstack.daemon import RECORD_FILE, ProcessRecord
from devstack.errors import DevstackError
from devstack.proc import ProcessIdentity

RUN_NAME = "make-run"


def run_folder(repository: Path) -> Path:
    """Where the running `make run` notes itself down."""
    return repository / ".local" / "run"


@contextmanager
def only_run(repository: Path) -> Iterator[None]:
    """Hold the place of the one running `make run`; raises DevstackError while another holds it."""
    folder = run_folder(repository)
    folder.mkdir(parents=True, exist_ok=True)
    other = ProcessRecord.read(folder)
    if other is not None and other.identity.alive:
        raise DevstackError(f"`make run` is running already (pid {other.pid})\n  what to do: make stop")
    own = ProcessIdentity.of(os.getpid())
    if own is None:
        raise DevstackError("/proc is not readable\n  what to do: mount it; this platform needs Linux")
    ProcessRecord(RUN_NAME, own.pid, own.start_ticks, own.boot_id, time.time(), stop_signal=int(signal.SIGTERM)).write(
        folder
    )
    try:
        yield
    finally:
        (folder / RECORD_FILE).unlink(missing_ok=True)


def end_on_sigterm() -> None:
    """Make SIGTERM end this program as Ctrl-C does, so that what it started is stopped."""

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
