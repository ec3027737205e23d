"""What each container of a project holds in memory, minute by minute."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from bench.compose_project import Project

SAMPLE_INTERVAL_S = 5.0
MINUTE_S = 60.0
PAGE_CACHE = "inactive_file "
# In PostgreSQL's container its buffers, which fill up to shared_buffers with whatever was read or written last.
SHARED = "shmem "
# Control groups version 2 with and without systemd, then version 1.
GROUPS = (
    "/sys/fs/cgroup/system.slice/docker-{id}.scope",
    "/sys/fs/cgroup/docker/{id}",
    "/sys/fs/cgroup/memory/docker/{id}",
)


@dataclass(frozen=True)
class Usage:
    """Bytes: `held` without page cache, `own` without SHARED either."""

    held: float
    own: float


class MemoryWatch:
    """Samples in a thread from `start` to `stop`. Memory is what the kernel cannot take back: without page cache."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._samples: defaultdict[str, list[tuple[float, Usage]]] = defaultdict(list)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._began = time.monotonic()

    def start(self) -> None:
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def growth(self, *, shared: bool = True) -> dict[str, float]:
        """Mean of the last minute over the mean of the second, by container; with or without memory of SHARED."""
        growth = {}
        for name, samples in self._samples.items():
            used = [(at, usage.held if shared else usage.own) for at, usage in samples]
            end_s = used[-1][0]
            growth[name] = _mean(used, end_s - MINUTE_S, end_s) / _mean(used, MINUTE_S, 2 * MINUTE_S)
        return growth

    def last_mb(self) -> dict[str, float]:
        """The last sample of each container."""
        return {name: round(samples[-1][1].held / 1e6, 1) for name, samples in self._samples.items()}

    def _watch(self) -> None:
        while not self._ending.wait(SAMPLE_INTERVAL_S):
            for container, name in self._project.containers().items():
                usage = _usage(container)
                if usage is not None:
                    self._samples[name].append((time.monotonic() - self._began, usage))


def _mean(samples: list[tuple[float, float]], since_s: float, until_s: float) -> float:
    return mean(used for at, used in samples if since_s <= at <= until_s)


def _usage(container: str) -> Usage | None:
    """From the container's control group, version 1 or 2; None when it is gone."""
    for form in GROUPS:
        folder = Path(form.format(id=container))
        for usage in ("memory.current", "memory.usage_in_bytes"):
            try:
                used = int((folder / usage).read_text())
                lines = (folder / "memory.stat").read_text().splitlines()
            except OSError:
                continue
            held = used - _counted(lines, PAGE_CACHE)
            return Usage(held, held - _counted(lines, SHARED))
    return None


def _counted(lines: list[str], name: str) -> int:
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)
