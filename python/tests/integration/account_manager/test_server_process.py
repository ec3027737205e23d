"""The documented command, as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from devstack.anvil import CHAIN_ID, Anvil
from devstack.ports import free_port

PYTHON_ROOT = Path(__file__).resolve().parents[3]


def test_the_server_starts_gets_ready_and_stops_gracefully(
    database_url: str, redis_url: str, rabbitmq_url: str, anvil: Anvil
) -> None:
    port = free_port()
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "RABBITMQ_URL": rabbitmq_url,
        "ACCOUNT_MANAGER_PORT": str(port),
        "CHAINS": f'[{{"chain_id": {CHAIN_ID}, "name": "local", "rpc_urls": ["{anvil.url}"]}}]',
    }
    command = [sys.executable, "-m", "tradingflow.account_manager.server"]
    with subprocess.Popen(command, cwd=PYTHON_ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            answer = _wait_until_ready(f"http://127.0.0.1:{port}/health/ready", server)
            assert answer["checks"] == {"postgres": "ok", "redis": "ok", "rabbitmq": "ok", f"chain_{CHAIN_ID}": "ok"}
            server.send_signal(signal.SIGTERM)
            output, _ = server.communicate(timeout=30)
        finally:
            server.kill()
    # uvicorn ends itself with the signal it was stopped by, once everything is closed.
    assert server.returncode in {0, -signal.SIGTERM}, output
    assert "Application shutdown complete." in output
    assert "Traceback" not in output


def _wait_until_ready(url: str, server: subprocess.Popen[str]) -> dict[str, dict[str, str]]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        try:
            answer = httpx.get(url, timeout=5)
        except httpx.TransportError:
            time.sleep(0.05)
            continue
        if answer.status_code == 200:
            body: dict[str, dict[str, str]] = answer.json()
            return body
    raise AssertionError("the server did not get ready")
