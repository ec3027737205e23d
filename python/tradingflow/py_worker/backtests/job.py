"""One backtest in a process of its own: `python -m tradingflow.py_worker.backtests.job FOLDER`.

The folder holds `request.json` and the candles; results are written beside them, compressed. Progress goes to standard
output, one `done total` a line. What the flow's author can mend ends in `failure.json`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import zlib
from contextlib import nullcontext
from pathlib import Path

import orjson

from tradingflow.core.errors import TradingFlowError
from tradingflow.py_worker.backtest.code_runner import code_sandbox
from tradingflow.py_worker.backtest.context import Outside
from tradingflow.py_worker.backtest.report import html_report
from tradingflow.py_worker.backtest.result import BacktestResult
from tradingflow.py_worker.backtest.run import backtest
from tradingflow.py_worker.backtests.plan import Plan, make_plan

MAX_MEMORY_BYTES = 4 * 2**30
# Cycles that trade come first.
NICENESS = 10


def main(folder: Path) -> None:
    os.nice(NICENESS)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MAX_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    request = json.loads((folder / "request.json").read_bytes())
    files = [(folder / f"{place}.csv").read_text("utf-8") for place in range(len(request["series"]))]
    try:
        _write(folder, _run(make_plan(request, files), request["accept_missing"]))
    except TradingFlowError as error:
        (folder / "failure.json").write_bytes(orjson.dumps(error.as_body()))


def _run(plan: Plan, accept_missing: list[str]) -> BacktestResult:
    has_code = any(node.type == "code_node" for node in plan.flow.graph.nodes)
    with code_sandbox(accept_missing) if has_code else nullcontext() as code:
        outside = Outside() if code is None else Outside(code=code)
        return backtest(plan.flow, plan.series, plan.spec, outside=outside, progress=_tell)


def _tell(done: int, total: int) -> None:
    print(done, total, flush=True)  # noqa: T201 (the parent reads it)


def _write(folder: Path, result: BacktestResult) -> None:
    contents = {
        "result.json": result.to_json(),
        "trades.csv": result.trades_csv().encode(),
        "report.html": html_report(result).encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(zlib.compress(content))
    (folder / "figures.json").write_bytes(orjson.dumps(result.figures.as_json()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
