"""The documented command, as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from devstack.anvil import CHAIN_ID, Anvil
from devstack.ports import free_port

PYTHON_ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def running_server(database_url: str, redis_url: str, rabbitmq_url: str, anvil: Anvil, **extra: str) -> Iterator[str]:
    """The documented command on a free port; gives its URL once it is ready, and stops it gracefully."""
    port = free_port()
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "RABBITMQ_URL": rabbitmq_url,
        "ACCOUNT_MANAGER_PORT": str(port),
        "CHAINS": f'[{{"chain_id": {CHAIN_ID}, "name": "local", "rpc_urls": ["{anvil.url}"]}}]',
        **extra,
    }
    command = [sys.executable, "-m", "tradingflow.account_manager.server"]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, cwd=PYTHON_ROOT, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            _wait_until_ready(f"http://127.0.0.1:{port}/health/ready", server)
            yield f"http://127.0.0.1:{port}"
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)
        finally:
            server.kill()
        log.seek(0)
        output = log.read()
    # uvicorn ends itself with the signal it was stopped by, once everything is closed.
    assert server.returncode in {0, -signal.SIGTERM}, output
    assert "Application shutdown complete." in output
    assert "Traceback" not in output


def test_the_server_starts_gets_ready_and_stops_gracefully(
    database_url: str, redis_url: str, rabbitmq_url: str, anvil: Anvil
) -> None:
    with running_server(database_url, redis_url, rabbitmq_url, anvil) as url:
        checks = httpx.get(f"{url}/health/ready").json()["checks"]
    assert checks == {"postgres": "ok", "redis": "ok", "rabbitmq": "ok", f"chain_{CHAIN_ID}": "ok"}


def _wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("the server did not get ready")
