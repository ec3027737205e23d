"""`make chaos-run`: kill -9 every process of a running `make run`, one after another, while its flow trades.

The run must complete with every step checked true against the chain, which includes that no trade id was mined twice
and that stored trades equal mined ones. KILLS=n (default: each process once), SEED=n, CYCLES=n (default 3 a kill).
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from bench.figure import Figures, progress
from devstack.daemon import ProcessRecord
from devstack.leftovers import recorded
from devstack.proc import kill_tree

REPOSITORY = Path(__file__).resolve().parents[2]
LOCAL = REPOSITORY / ".local"
TRADING_STARTED = "one buy and one sell mined"
PAUSE_S = (4.0, 9.0)
BACK_TIMEOUT_S = 90
CYCLES_PER_KILL = 3
NEVER = frozenset({"make-run"})
# Erlang's name server is asked only while a broker starts, and that start brings it back.
NOT_AWAITED = frozenset({"rabbitmq-epmd"})


class Killer:
    """Kills recorded processes in a seeded order and waits for each to be back."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self.killed: list[str] = []
        self.slowest_return_s = 0.0

    def victims(self, kills: int) -> list[str]:
        """Every process before any of them twice."""
        names = sorted({record.name for record in recorded(LOCAL)} - NEVER)
        chosen: list[str] = []
        while len(chosen) < kills:
            chosen += self._random.sample(names, len(names))
        return chosen[:kills]

    def kill(self, name: str) -> None:
        """SIGKILL one process with all it started; returns once it runs again. Raises RuntimeError if it does not."""
        record = self._record(name)
        if record is None:
            raise RuntimeError(f"{name} does not run")
        progress(f"kill -9 {name} (pid {record.pid})")
        began = time.monotonic()
        kill_tree(record.identity)
        while name not in NOT_AWAITED and ((again := self._record(name)) is None or again.pid == record.pid):
            if time.monotonic() - began > BACK_TIMEOUT_S:
                raise RuntimeError(f"{name} did not come back within {BACK_TIMEOUT_S} s")
            time.sleep(0.1)
        self.slowest_return_s = max(self.slowest_return_s, time.monotonic() - began)
        self.killed.append(name)

    def pause(self) -> None:
        """Some seconds of trading between two kills."""
        time.sleep(self._random.uniform(*PAUSE_S))

    @staticmethod
    def _record(name: str) -> ProcessRecord | None:
        return next((record for record in recorded(LOCAL) if record.name == name), None)


def start_run(cycles: int) -> subprocess.Popen[str]:
    """`make run ONCE=1` as its recipe starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "devstack.main_job"],
        env=os.environ | {"ONCE": "1", "CYCLES": str(cycles)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_trading(run: subprocess.Popen[str]) -> bool:
    """Pass its lines on until the flow trades; False when it ended before."""
    for line in run.stdout or ():
        progress(line.rstrip())
        if TRADING_STARTED in line:
            return True
    return False


def harass(run: subprocess.Popen[str], killer: Killer, kills: int | None) -> str | None:
    """What went wrong, if something did."""
    names = killer.victims(kills if kills is not None else len({r.name for r in recorded(LOCAL)} - NEVER))
    try:
        for name in names:
            killer.pause()
            if run.poll() is not None:
                return f"the run ended before {name} was killed"
            killer.kill(name)
    except RuntimeError as problem:
        return str(problem)
    return None


def main() -> int:
    """Run once; prints the figures."""
    seed = int(os.environ.get("SEED") or 1)
    kills = int(os.environ["KILLS"]) if os.environ.get("KILLS") else None
    cycles = int(os.environ.get("CYCLES") or CYCLES_PER_KILL * (kills or 10))
    progress(f"seed {seed}")
    killer = Killer(seed)
    run = start_run(cycles)
    problem = harass(run, killer, kills) if wait_for_trading(run) else "the run did not come to trade"
    for line in run.stdout or ():
        progress(line.rstrip())
    return report(run.wait(), killer, problem, seed)


def report(exit_code: int, killer: Killer, problem: str | None, seed: int) -> int:
    """Show the figures; the exit code."""
    summary = json.loads((LOCAL / "summary.json").read_text(encoding="utf-8"))
    trades = [trade["trade_id"] for trade in summary["trades"]]
    figures = Figures()
    figures.show("run_processes_killed", len(killer.killed), "kills", target="all", ok=problem is None, seed=seed,
                 killed=killer.killed, problem=problem)  # fmt: skip
    figures.show("run_completed", int(exit_code == 0), "runs", target="== 1", ok=exit_code == 0,
                 problem=summary["problem"])  # fmt: skip
    doubled = len(trades) - len(set(trades))
    figures.show("run_doubled_trades", doubled, "trades", target="== 0", ok=doubled == 0, mined=len(trades))
    figures.show("run_slowest_return", killer.slowest_return_s, "s", target="<= 90", ok=True)
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
