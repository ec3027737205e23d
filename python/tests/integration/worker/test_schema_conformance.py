"""Schemathesis over the Worker's whole OpenAPI document, against a running process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from devstack.ports import free_port
from tests.integration.worker.conftest import Client, until
from tests.integration.worker.nodes import edge, node

PYTHON_ROOT = Path(__file__).resolve().parents[3]
CASES_AN_OPERATION = int(os.environ.get("SCHEMATHESIS_CASES", "5"))
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance"
CHECKS += ",response_schema_conformance,negative_data_rejection,missing_required_header,ignored_auth"
# It has no end: its schema is proved by its own tests.
EXCLUDED = ("/flows/{flow_id}/stream",)


async def test_no_server_error_and_no_answer_outside_the_schema(
    database_url: str, redis_url: str, rabbitmq_url: str, add_user: Callable[[], Any], tmp_path: Path
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    servers = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "RABBITMQ_URL": rabbitmq_url}
    user = await add_user()
    log = tmp_path / "worker.log"
    with _serving({**servers, "PY_WORKER_PORT": str(port)}, log):
        async with httpx.AsyncClient(base_url=url) as http:
            await until(lambda: _ready(http), 120)
            await _fill(Client(http, user))
        run = await asyncio.to_thread(_schemathesis, url, str(user), tmp_path)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    tested = re.search(r"Tested: (\d+)", run.stdout)
    assert tested is not None
    assert int(tested.group(1)) >= 40
    assert "Traceback" not in log.read_text()


@contextmanager
def _serving(servers: dict[str, str], log: Path) -> Iterator[None]:
    environment = os.environ | servers | {"CYCLE_PARTITIONS": "4", "CHAINS": "[]"}
    command = [sys.executable, "-m", "tests.integration.worker.served"]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=PYTHON_ROOT, env=environment, stdout=output, stderr=output) as server,
    ):
        try:
            yield
            server.send_signal(signal.SIGTERM)
            server.wait(60)
        finally:
            server.kill()


async def _ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/health/ready")).is_success
    except httpx.HTTPError:
        return False


async def _fill(client: Client) -> None:
    """Something to find behind the ids that the document gives as examples."""
    nodes = [node("n", "emit"), node("fails", "fail"), node("b", "pass")]
    await client.execute("my_flow", nodes, [edge("n", "fails"), edge("n", "b")])
    await client.cycle_end("my_flow")


def _schemathesis(url: str, token: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    command += ["-H", f"Authorization: Bearer {token}", "--checks", CHECKS, "--seed", "1"]
    command += ["--max-examples", str(CASES_AN_OPERATION), "--workers", "1", "--no-color"]
    for path in EXCLUDED:
        command += ["--exclude-path", path]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=900)
