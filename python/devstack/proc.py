"""Questions about processes, answered from /proc.

A pid alone does not name a process: the kernel hands the number out again. A pid together with its
start time and the boot it belongs to does, so nothing here is ever signalled by number alone.
"""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# Places in /proc/PID/stat counted from the state (proc(5) counts from the pid, two before).
THREADS_FIELD = 17
START_FIELD = 19


@dataclass(frozen=True)
class ProcessIdentity:
    """One process for as long as this machine is up; equal only to itself."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """The process that has this pid now; None when there is none or it is a zombie.

        A zombie with threads is none: its main thread ended first, the others still hold ports and files.
        """
        fields = _stat_fields(pid)
        if fields is None or (fields[0] in {"Z", "X"} and int(fields[THREADS_FIELD]) <= 1):
            return None
        return cls(pid, int(fields[START_FIELD]), _boot_id())

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessIdentity.of(self.pid) == self

    def send(self, signal_number: int) -> bool:
        """Signal this process; False when it is gone already."""
        if not self.alive:
            return False
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal_number)
            return True
        return False


def descendants(pid: int) -> list[ProcessIdentity]:
    """Every living child, grandchild and so on: a server's workers leave its process group."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat_fields(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return [identity for child in found if (identity := ProcessIdentity.of(child)) is not None]


def kill_tree(root: ProcessIdentity) -> None:
    """SIGKILL a process and all it started, so that none of them can restart another."""
    below = descendants(root.pid) if root.alive else []
    for identity in [root, *below]:
        identity.send(signal.SIGKILL)


def command_line(pid: int) -> str:
    """The command of a process as a person would type it; empty when it cannot be seen."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def listener_of(port: int) -> int | None:
    """The pid that listens on a TCP port; None when nobody does or the holder is not ours to see."""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return None
    for entry in PROC.iterdir():
        if entry.name.isdigit() and inodes & set(_socket_inodes(entry)):
            return int(entry.name)
    return None


def _listening_inodes(port: int) -> Iterable[str]:
    listen_state = "0A"
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == listen_state and int(columns[1].rsplit(":", 1)[1], 16) == port:
                    yield columns[9]


def _socket_inodes(process_dir: Path) -> Iterable[str]:
    with suppress(OSError):
        for descriptor in (process_dir / "fd").iterdir():
            with suppress(OSError):
                target = str(descriptor.readlink())
                if target.startswith("socket:["):
                    yield target[8:-1]


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on (proc(5)); the name before may hold spaces."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
