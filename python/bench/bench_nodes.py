"""`make bench-nodes`: what a code node costs over a no-op node, and an indicator over 1,000 points.

Set by the environment: RUNS (of each, 2,000), SEED.
"""

import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

from bench.figure import Figures, progress
from bench.worker_nodes import NoOp
from tradingflow.py_worker.kit import node_types
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.kit.testing import MemoryContext
from tradingflow.py_worker.sandbox.runner import Sandbox, SandboxPlan

RUNS = int(os.environ.get("RUNS", "2000"))
SEED = int(os.environ.get("SEED", "1"))
WARM_UP = 100
POINTS = 1_000
INDICATORS: dict[str, dict[str, int]] = {
    "SMA": {"timeperiod": 20},
    "EMA": {"timeperiod": 20},
    "RSI": {"timeperiod": 14},
    "MACD": {},
    "BBANDS": {"timeperiod": 20},
    "ATR": {"timeperiod": 14},
}


async def took_ms(node: AnyNode, ctx: MemoryContext, config: Mapping[str, Any], inputs: Mapping[str, Any]) -> float:
    """One run with all that the worker does for it: config, inputs and outputs checked, outputs as JSON."""
    began = time.perf_counter()
    (await node.execute(ctx, config, inputs)).signals()
    return (time.perf_counter() - began) * 1000


async def code_over_noop(figures: Figures) -> None:
    sandbox = Sandbox(SandboxPlan(processes=2))
    await sandbox.start()
    if sandbox.refusal is not None:
        figures.show("code_node_over_noop_p50", 0, "ms", target="<= 1 ms", ok=False, refusal=sandbox.refusal)
        return
    noop, code = NoOp(), node_types()["code_node"]
    ctx = MemoryContext(code=sandbox.for_owner("bench"))
    config = {"python_code": "output_data = value + 1"}
    plain, sandboxed = list[float](), list[float]()
    for number in range(WARM_UP + RUNS):
        plain.append(await took_ms(noop, ctx, {}, {"value": number}))
        sandboxed.append(await took_ms(code, ctx, config, {"value": number}))
    await sandbox.close()
    del plain[:WARM_UP], sandboxed[:WARM_UP]
    base, mine, p99 = statistics.median(plain), statistics.median(sandboxed), statistics.quantiles(sandboxed, n=100)[98]
    figures.show("code_node_over_noop_p50", mine - base, "ms", target="<= 1 ms", ok=mine - base <= 1,
                 p99=round(p99, 3), noop_p50=round(base, 4))  # fmt: skip


async def indicators(figures: Figures, chance: random.Random) -> None:
    """The slowest of the usual ones, over candles as the exchange node sends them."""
    rows, price = [], 2000.0
    for number in range(POINTS):
        price *= 1 + chance.gauss(0, 0.001)
        rows.append([number, price, price * 1.001, price * 0.999, price, 10.0])
    series = {"header": ["open_time", "open", "high", "low", "close", "volume"], "kline_data": rows}
    node, ctx = node_types()["indicator_node"], MemoryContext()
    medians = {}
    for name, params in INDICATORS.items():
        config = {"indicator": name, "params": params}
        times = [await took_ms(node, ctx, config, {"series": series}) for _ in range(WARM_UP + RUNS // 4)]
        medians[name] = round(statistics.median(times[WARM_UP:]), 3)
    slowest = max(medians.values())
    figures.show("indicator_1000_points_p50", slowest, "ms", target="<= 2 ms", ok=slowest <= 2, each=medians)


def main() -> int:
    progress(f"seed {SEED}, {RUNS} runs")
    figures = Figures()
    asyncio.run(code_over_noop(figures))
    asyncio.run(indicators(figures, random.Random(SEED)))  # noqa: S311
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
