"""No import may lift Python's recursion limit: deep JSON would overflow the C stack and end the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PYTHON = Path(__file__).resolve().parents[3]
DEEP = "import json; json.loads('[' * 400_000)"


@pytest.mark.parametrize(
    "module",
    [
        "tradingflow.account_manager.server",
        "tradingflow.account_manager.celery_worker",
        "tradingflow.py_worker.server",
        "tradingflow.monitor.server",
    ],
)
def test_a_service_meets_deep_json_with_an_error_and_lives(module: str) -> None:
    program = f"import {module}\ntry:\n    {DEEP}\nexcept RecursionError:\n    print('refused')"
    done = subprocess.run([sys.executable, "-c", program], cwd=PYTHON, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "refused"), done.stderr
