"""One measurement of `bench_backtest` in a process of its own: prints what it found as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from typing import Any

from tests.unit.backtest.flows import cross_flow, generated
from tradingflow.py_worker.backtest.candles import Candles
from tradingflow.py_worker.backtest.run import backtest, flow_under_test
from tradingflow.py_worker.backtest.spec import BacktestSpec
from tradingflow.py_worker.backtest.sweep import Setup, grid, parse_varied, sweep

FEE = 0.003
FAST, SLOW = 10, 30
# Some 38,000 trades in a million candles cost 0.3 % each: ten thousand would be spent to the last unit on the way.
RICH = BacktestSpec.model_validate({"cash": "1e45"})


def run(candles: Candles, spec: BacktestSpec, *, batch: bool = True) -> dict[str, Any]:
    """From candles in memory to figures and the digest of everything."""
    flow = flow_under_test(cross_flow())
    backtest(flow, [candles.between(0, 500)], BacktestSpec(), batch=batch)
    began = time.perf_counter()
    result = backtest(flow, [candles], spec, batch=batch)
    seconds = time.perf_counter() - began
    return {"bars_per_second": len(candles) / seconds, "sha256": result.sha256(), "trades": len(result.trades)}


def loop(candles: Candles) -> dict[str, Any]:
    """The same rules without flow, graph and vault: running sums over lists, doubles for money."""
    closes, opens = candles.close.tolist(), candles.open.tolist()
    began = time.perf_counter()
    cash, held, fast, slow, wanted, equity = 10_000.0, 0.0, 0.0, 0.0, False, []
    for at, close in enumerate(closes):
        if wanted and cash:
            cash, held = 0.0, cash * (1 - FEE) / opens[at]
        elif not wanted and held:
            cash, held = held * (1 - FEE) * opens[at], 0.0
        equity.append(cash + held * close)
        fast += close - (closes[at - FAST] if at >= FAST else 0.0)
        slow += close - (closes[at - SLOW] if at >= SLOW else 0.0)
        wanted = at >= SLOW - 1 and fast / FAST > slow / SLOW
    return {"bars_per_second": len(closes) / (time.perf_counter() - began), "equity": equity[-1]}


def swept(candles: Candles, processes: int) -> dict[str, Any]:
    runs = int(os.environ["SWEEP_RUNS"])
    varied = [parse_varied("fast.params.timeperiod=5:24:1"), parse_varied("slow.params.timeperiod=30:79:1")]
    setup = Setup(cross_flow(), "cross", [candles], BacktestSpec())
    settings = grid(varied)[:: max(1, 1000 // runs)][:runs]
    began = time.perf_counter()
    found = sweep(setup, settings, processes=processes)
    seconds = time.perf_counter() - began
    text = json.dumps(found.as_json(), sort_keys=True, default=str)
    return {"seconds": seconds, "digest": hashlib.sha256(text.encode()).hexdigest()}


def main() -> None:
    what, size, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    candles = generated(size, seed)
    measures = {
        "run": lambda: run(candles, BacktestSpec()),
        "rich_run": lambda: run(candles, RICH),
        "one_by_one": lambda: run(candles, BacktestSpec(), batch=False),
        "loop": lambda: loop(candles),
        "sweep_1": lambda: swept(candles, 1),
        "sweep_2": lambda: swept(candles, 2),
    }
    found = measures[what]()
    found["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
