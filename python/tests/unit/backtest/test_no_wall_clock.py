"""A backtest that read the wall clock, or chance, would not give the same answer twice."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PY_WORKER = Path(__file__).resolve().parents[3] / "tradingflow" / "py_worker"
# Those that put a backtest to work around the simulation, not in it.
AROUND = {"commands.py", "endpoints.py", "jobs.py", "store.py", "download.py", "service.py", "process.py"}
FILES = sorted(
    path
    for folder in ("backtest", "engine", "nodes")
    for path in (PY_WORKER / folder).glob("*.py")
    if not (folder == "backtest" and path.name in AROUND)
)
FORBIDDEN = {
    ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"),
    ("time", "time"), ("time", "time_ns"), ("time", "monotonic"), ("time", "perf_counter"),
}  # fmt: skip
FORBIDDEN_NAMES = {"SystemClock"}
FORBIDDEN_MODULES = {"time", "random", "secrets"}


def readings(tree: ast.AST) -> Iterator[str]:
    for found in ast.walk(tree):
        if isinstance(found, ast.Attribute) and isinstance(found.value, ast.Name):
            if (found.value.id, found.attr) in FORBIDDEN:
                yield f"{found.value.id}.{found.attr} in line {found.lineno}"
        elif isinstance(found, ast.Name) and found.id in FORBIDDEN_NAMES:
            yield f"{found.id} in line {found.lineno}"
        elif isinstance(found, ast.Import):
            yield from (alias.name for alias in found.names if alias.name in FORBIDDEN_MODULES)
        elif isinstance(found, ast.ImportFrom) and found.module in FORBIDDEN_MODULES:
            yield str(found.module)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_a_backtest_runs_reads_the_wall_clock(path: Path) -> None:
    assert list(readings(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_a_reading_would_be_seen() -> None:
    assert list(readings(ast.parse("from datetime import datetime\ndatetime.now()")))
    assert list(readings(ast.parse("import time")))
