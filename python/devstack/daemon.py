"""One long-running process with a directory of its own: `process.json`, `process.log`.

The record outlives the program that wrote it, so `make stop` and `make status` work from anywhere.
"""

import json
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from devstack.proc import ProcessIdentity, kill_tree

RECORD_FILE = "process.json"
LOG_FILE = "process.log"
POLL_INTERVAL_S = 0.02


@dataclass(frozen=True)
class ProcessRecord:
    """What is written down about a started process; holds no secret."""

    name: str
    pid: int
    start_ticks: int
    boot_id: str
    started_at: float
    stop_signal: int
    port: int | None = None
    url: str | None = None
    ready_url: str | None = None

    @property
    def identity(self) -> ProcessIdentity:
        """The process this record speaks of, which may be gone by now."""
        return ProcessIdentity(self.pid, self.start_ticks, self.boot_id)

    @classmethod
    def read(cls, directory: Path) -> "ProcessRecord | None":
        """The record in a directory; None when there is none or it is damaged."""
        try:
            return cls(**json.loads((directory / RECORD_FILE).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, directory: Path) -> None:
        """Put it into a directory, in one step: a reader sees the old record or the new one."""
        draft = directory / f"{RECORD_FILE}.new"
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(directory / RECORD_FILE)


class Daemon:
    """Starts, watches and ends one process, and knows it again after a restart of ourselves."""

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        stop_signal: signal.Signals = signal.SIGTERM,
        port: int | None = None,
        url: str | None = None,
        ready_url: str | None = None,
    ) -> None:
        self.name = name
        self.directory = directory
        self._stop_signal = stop_signal
        self._port = port
        self._url = url
        self._ready_url = ready_url
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        """Standard output and error of every run, oldest first."""
        return self.directory / LOG_FILE

    @property
    def record(self) -> ProcessRecord | None:
        """The record of the living process; None when it does not run."""
        if self._child is not None:
            self._child.poll()
        record = ProcessRecord.read(self.directory)
        return record if record is not None and record.identity.alive else None

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        return record.pid if (record := self.record) is not None else None

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; says nothing about its being ready."""
        return self.record is not None

    @property
    def exit_code(self) -> int | None:
        """How the process we started ended (negative: by that signal); None when unknown."""
        return self._child.poll() if self._child is not None else None

    def spawn(self, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        """Start the command in a session of its own, so that Ctrl-C in ours does not reach it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._child = subprocess.Popen(
                command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._write_record(self._child.pid)

    def stop(self, timeout_s: float = 15) -> bool:
        """Ask it to end, and insist after the time-out; False when it had to be killed."""
        record = self.record
        graceful = stop_process(record, timeout_s) if record is not None else True
        self._forget()
        return graceful

    def kill(self) -> None:
        """SIGKILL at once, with everything it started."""
        if (record := self.record) is not None:
            kill_tree(record.identity)
            wait_until_gone(record.identity, timeout_s=10)
        self._forget()

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        try:
            text = self.log_file.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _forget(self) -> None:
        if self._child is not None:
            self._child.wait(timeout=10)
        (self.directory / RECORD_FILE).unlink(missing_ok=True)

    def _write_record(self, pid: int) -> None:
        identity = ProcessIdentity.of(pid)
        if identity is None:
            return
        ProcessRecord(
            name=self.name,
            pid=pid,
            start_ticks=identity.start_ticks,
            boot_id=identity.boot_id,
            started_at=time.time(),
            stop_signal=int(self._stop_signal),
            port=self._port,
            url=self._url,
            ready_url=self._ready_url,
        ).write(self.directory)


def stop_process(record: ProcessRecord, timeout_s: float) -> bool:
    """Send a recorded process its stop signal; SIGKILL after the time-out. True when it obeyed."""
    record.identity.send(record.stop_signal)
    if wait_until_gone(record.identity, timeout_s):
        return True
    kill_tree(record.identity)
    wait_until_gone(record.identity, timeout_s=10)
    return False


def wait_until_gone(identity: ProcessIdentity, timeout_s: float) -> bool:
    """Wait for a process to end; False when it is still there after the time-out."""
    deadline = time.monotonic() + timeout_s
    while identity.alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL_S)
    return True
