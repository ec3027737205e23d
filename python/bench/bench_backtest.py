"""`make bench-backtest`: candles a second of an SMA(10/30) cross, its memory, its digest, and a sweep on all cores.

The flow is the one of the tests: price, two averages, a condition, buy and sell; all-in, all-out, 0.3 % fee, next-open
fills. Each figure comes from processes of its own. Sizes by environment: BARS (200,000), MEMORY_BARS (1,000,000),
SWEEP_RUNS (200), SWEEP_BARS (10,000), SEED (7).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from bench.figure import Figures, progress

BARS = int(os.environ.get("BARS", "200000"))
MEMORY_BARS = int(os.environ.get("MEMORY_BARS", "1000000"))
SWEEP_RUNS = int(os.environ.get("SWEEP_RUNS", "200"))
SWEEP_BARS = int(os.environ.get("SWEEP_BARS", "10000"))
SEED = int(os.environ.get("SEED", "7"))
LEAST_RATE = 15_000
MEMORY_LIMIT_MB = 500
LEAST_SPEED_UP = 1.8


def measure(what: str, size: int, **environment: str) -> dict[str, Any]:
    """What a fresh process found."""
    command = [sys.executable, "-m", "bench.backtest_runs", what, str(size), str(SEED)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    figures = Figures()
    progress(f"seed {SEED}, {BARS:,} candles")
    runs = [measure("run", BARS, PYTHONHASHSEED=str(seed)) for seed in range(3)]
    rate = max(run["bars_per_second"] for run in runs)
    loop = measure("loop", BARS)["bars_per_second"]
    figures.show(
        "backtest_bars", rate, "bars/s", baseline="the same rules as a plain Python loop", baseline_value=loop,
        target=f">= {LEAST_RATE}", ok=rate >= LEAST_RATE, trades=runs[0]["trades"],
    )  # fmt: skip
    digests = len({run["sha256"] for run in runs})
    figures.show("backtest_digests", digests, "digests of 3 runs", target="== 1", ok=digests == 1)
    stepwise = measure("one_by_one", BARS // 20)
    figures.show(
        "backtest_bars_one_by_one", stepwise["bars_per_second"], "bars/s", baseline="backtest_bars",
        baseline_value=rate, target="none: what a flow costs that no batch form covers", ok=True,
    )  # fmt: skip
    progress(f"memory of {MEMORY_BARS:,} candles")
    memory = measure("rich_run", MEMORY_BARS)
    figures.show(
        "backtest_memory", memory["memory_mb"], "MB", target=f"<= {MEMORY_LIMIT_MB}",
        ok=memory["memory_mb"] <= MEMORY_LIMIT_MB, bars=MEMORY_BARS,
        bars_per_second=memory["bars_per_second"], trades=memory["trades"],
    )  # fmt: skip
    progress(f"sweep of {SWEEP_RUNS} runs over {SWEEP_BARS:,} candles")
    began = time.perf_counter()
    one = measure("sweep_1", SWEEP_BARS, SWEEP_RUNS=str(SWEEP_RUNS))
    two = measure("sweep_2", SWEEP_BARS, SWEEP_RUNS=str(SWEEP_RUNS))
    progress(f"took {time.perf_counter() - began:.0f} s")
    speed_up = one["seconds"] / two["seconds"]
    figures.show(
        "backtest_sweep_two_cores", SWEEP_RUNS / two["seconds"], "runs/s", baseline="one process",
        baseline_value=SWEEP_RUNS / one["seconds"], target=f">= {LEAST_SPEED_UP} x baseline",
        ok=speed_up >= LEAST_SPEED_UP and one["digest"] == two["digest"],
    )  # fmt: skip
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
