"""The four scripts with the real services, each group against the `.env` of a copy of the checkout."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.anvil import CHAIN_ID, Anvil
from devstack.ports import LOOPBACK, free_port

REPOSITORY = Path(__file__).resolve().parents[3]
GROUPS = ("account_services", "worker")
COPIED = ("tradingflow", "migrations", "scripts")


@pytest.fixture
def checkout(tmp_path: Path, database_url: str, redis_url: str, rabbitmq_url: str, anvil: Anvil) -> Iterator[Path]:
    for file in REPOSITORY.glob("*.sh"):
        shutil.copy2(file, tmp_path)
    for folder in COPIED:
        shutil.copytree(REPOSITORY / "python" / folder, tmp_path / "python" / folder)
    shutil.copy2(REPOSITORY / "python" / "alembic.ini", tmp_path / "python")
    account_port = free_port()
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "RABBITMQ_URL": rabbitmq_url,
        "CHAINS": json.dumps([{"chain_id": CHAIN_ID, "name": "local", "rpc_urls": [anvil.url]}]),
        "ACCOUNT_MANAGER_PORT": account_port,
        "PY_WORKER_PORT": free_port(),
        "MONITOR_PORT": free_port(),
        "JWKS_URL": f"http://{LOOPBACK}:{account_port}/.well-known/jwks.json",
    }
    example = (REPOSITORY / ".env.example").read_text()
    (tmp_path / ".env").write_text(example + "".join(f"{name}={value}\n" for name, value in settings.items()))
    yield tmp_path
    for group in GROUPS:
        script(tmp_path, f"stop_{group}.sh", STOP_TIMEOUT_S="0")


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
