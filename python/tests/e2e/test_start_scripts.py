"""The four scripts with the real services, each group against the `.env` of a copy of the checkout."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

GROUPS = ("account_services", "worker")


@pytest.fixture(autouse=True)
def stopped(checkout: Path) -> Iterator[None]:
    yield
    for group in GROUPS:
        script(checkout, f"stop_{group}.sh", STOP_TIMEOUT_S="0")


def script(checkout: Path, name: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / name, *arguments],
        cwd="/",
        env=os.environ | {"PYTHON": sys.executable} | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_both_groups_start_are_ready_and_stop_gracefully(checkout: Path) -> None:
    for group in GROUPS:
        started = script(checkout, f"start_{group}.sh")
        assert started.returncode == 0, started.stderr
        for url in [word for word in started.stdout.split() if word.startswith("http://")]:
            with urllib.request.urlopen(f"{url}/health") as answer:
                assert answer.status == 200
        assert script(checkout, f"start_{group}.sh", "status").returncode == 0
    for group in GROUPS:
        stopped = script(checkout, f"stop_{group}.sh")
        assert (stopped.returncode, stopped.stderr) == (0, "")
        assert script(checkout, f"stop_{group}.sh", "status").returncode == 3
