"""One backtest in a process of its own: `python -m tradingflow.py_worker.backtests.job FOLDER`.

The folder holds `request.json` and the candles; results are written beside them, compressed. Progress goes to standard
output, one `done total` a line. What the flow's author can mend ends in `failure.json`. Standard input stays open while
the worker lives: when it closes, the folder is removed and the process ends.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import zlib
from contextlib import nullcontext
from pathlib import Path
from threading import Thread
from typing import Any

import orjson

from tradingflow.core.errors import TradingFlowError
from tradingflow.py_worker.backtest.code_runner import code_sandbox
from tradingflow.py_worker.backtest.context import Outside
from tradingflow.py_worker.backtest.report import html_report
from tradingflow.py_worker.backtest.result import BacktestResult
from tradingflow.py_worker.backtest.run import backtest_laid
from tradingflow.py_worker.backtests.plan import Plan, make_plan
from tradingflow.py_worker.sandbox.runner import SandboxPlan

MAX_MEMORY_BYTES = 4 * 2**30
# Cycles that trade come first.
NICENESS = 10


def main(folder: Path) -> None:
    Thread(target=_end_with_worker, args=(folder,), daemon=True).start()
    os.nice(NICENESS)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MAX_MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MAX_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    request = json.loads((folder / "request.json").read_bytes())
    files = [(folder / f"{place}.csv").read_text("utf-8") for place in range(len(request["series"]))]
    try:
        _write(folder, _run(make_plan(request, files), read_plan(request["sandbox"])))
    except TradingFlowError as error:
        (folder / "failure.json").write_bytes(orjson.dumps(error.as_body()))


def _end_with_worker(folder: Path) -> None:
    # Not through sys.stdin: a thread inside its buffer breaks the end of the interpreter.
    os.read(0, 1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def sandbox_fields(plan: SandboxPlan) -> dict[str, Any]:
    """The part of a worker's sandbox plan that its backtests share, as JSON."""
    return {"user_id": plan.user_id, "accept_missing": sorted(plan.accept_missing)}


def read_plan(fields: dict[str, Any]) -> SandboxPlan:
    """What `sandbox_fields` wrote."""
    return SandboxPlan(user_id=fields["user_id"], accept_missing=frozenset(fields["accept_missing"]))


def _run(plan: Plan, sandbox: SandboxPlan) -> BacktestResult:
    has_code = any(node.type == "code_node" for node in plan.flow.graph.nodes)
    with code_sandbox(sandbox) if has_code else nullcontext() as code:
        outside = Outside() if code is None else Outside(code=code)
        return backtest_laid(plan.flow, plan.laid, plan.spec, outside=outside, progress=_tell)


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
