"""The containers' health check, as the engine runs it."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from devstack.ports import free_port
from tests.unit.deployment.deployment_files import REPOSITORY

SCRIPT = REPOSITORY / "python/scripts/healthcheck.py"


class Service(BaseHTTPRequestHandler):
    """Ready at /ready, unavailable elsewhere."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 503)
        self.end_headers()
        self.wfile.write(b'{"checks": {"postgres": "OSError"}}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_service_that_answers_is_healthy(service: str) -> None:
    assert check(f"{service}/ready").returncode == 0


def test_a_service_that_is_not_ready_is_unhealthy_and_says_what_it_lacks(service: str) -> None:
    done = check(f"{service}/health/ready")
    assert done.returncode == 1
    assert "503" in done.stderr
    assert "postgres" in done.stderr


def test_a_service_that_is_gone_is_unhealthy() -> None:
    done = check(f"http://127.0.0.1:{free_port()}/ready")
    assert done.returncode == 1
    assert "ConnectionRefusedError" in done.stderr


def test_celery_is_healthy_only_while_it_holds_a_connection_to_the_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as broker:
        port = broker.getsockname()[1]
        url = f"amqp://me:canary-secret@127.0.0.1:{port}/v"
        without = check("broker", RABBITMQ_URL=url)
        with socket.create_connection(("127.0.0.1", port)):
            assert check("broker", RABBITMQ_URL=url).returncode == 0
            assert check("broker", RABBITMQ_PORT=str(port)).returncode == 0
    assert without.returncode == 1
    assert f"port {port}" in without.stderr
    assert "canary-secret" not in without.stderr
