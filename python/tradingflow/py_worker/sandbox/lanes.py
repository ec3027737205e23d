"""Who computes much waits for who computes little: two lanes of interpreters, one of them of low priority.

An owner's code begins in the quick lane. What it computes fills an account that drains as time goes by; while the
account is overdrawn, the owner's next runs are in the slow lane, which the quick one (and the worker) preempts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

LaneName = Literal["quick", "slow"]
# nice(2): the scheduler gives a process at 5 about twenty times the share of one at 19.
NICENESS: dict[LaneName, int] = {"quick": 5, "slow": 19}
# A flow's ordinary code takes milliseconds; a model fitted once a minute stays below both.
BURST_CPU_S = 0.5
DRAIN_CPU_S_PER_S = 0.1
DEEPEST_CPU_S = 5.0
FORGET_AT = 10_000


@dataclass(slots=True)
class _Account:
    used_s: float = 0.0
    as_of_s: float = 0.0


@dataclass
class CpuAccounts:
    """Processor seconds each owner used lately. Times are those of a monotonic clock."""

    _accounts: dict[str, _Account] = field(default_factory=dict)

    def lane(self, owner: str, now_s: float) -> LaneName:
        account = self._accounts.get(owner)
        return "slow" if account is not None and self._left(account, now_s) > BURST_CPU_S else "quick"

    def charge(self, owner: str, cpu_s: float, now_s: float) -> None:
        """Never so much that an owner would be slow for longer than 45 s after the last run."""
        if len(self._accounts) >= FORGET_AT:
            self._accounts = {who: known for who, known in self._accounts.items() if self._left(known, now_s) > 0}
        account = self._accounts.setdefault(owner, _Account(0.0, now_s))
        account.used_s = min(self._left(account, now_s) + cpu_s, DEEPEST_CPU_S)
        account.as_of_s = now_s

    def _left(self, account: _Account, now_s: float) -> float:
        return max(0.0, account.used_s - (now_s - account.as_of_s) * DRAIN_CPU_S_PER_S)


def cpu_seconds(pid: int) -> float | None:
    """Processor time of a process so far (clock_getcpuclockid(3)); None when it is gone."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None
