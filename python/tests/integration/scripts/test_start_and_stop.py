"""The start and stop scripts, on a copy of the checkout whose worker is a small server that can misbehave."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from devstack.ports import LOOPBACK, free_port
from devstack.proc import ProcessIdentity

REPOSITORY = Path(__file__).resolve().parents[4]

WORKER = """
import http.server, os, signal, sys
from tradingflow.core.config import WorkerSettings

how = os.environ.get("WORKER_BEHAVES", "")
if how == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if how == "broken":
    sys.exit("the worker has no work")

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = how != "never_ready" and self.path == "/health/ready"
        self.send_response(200 if ready else 503)
        self.end_headers()

settings = WorkerSettings()
http.server.HTTPServer((settings.py_worker_host, settings.py_worker_port), Health).serve_forever()
"""


@dataclass(frozen=True)
class Checkout:
    """A copy of the checkout with the real scripts and the real settings."""

    folder: Path
    port: int

    def run(
        self, script: str, *arguments: str, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / script, *arguments],
            cwd=cwd or self.folder,
            env=os.environ | {"PYTHON": sys.executable} | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def worker(self) -> ProcessIdentity | None:
        try:
            return ProcessIdentity.of(int((self.folder / "logs" / "py_worker.pid").read_text()))
        except OSError:
            return None


@pytest.fixture
def checkout(tmp_path: Path, database_url: str, redis_url: str, rabbitmq_url: str) -> Iterator[Checkout]:
    for script in REPOSITORY.glob("*.sh"):
        shutil.copy2(script, tmp_path)
    package = tmp_path / "python" / "tradingflow"
    shutil.copytree(REPOSITORY / "python" / "scripts", tmp_path / "python" / "scripts")
    shutil.copytree(REPOSITORY / "python" / "tradingflow" / "core", package / "core")
    (package / "__init__.py").touch()
    (package / "py_worker").mkdir()
    (package / "py_worker" / "server.py").write_text(WORKER)
    port = free_port()
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "RABBITMQ_URL": rabbitmq_url,
        "PY_WORKER_PORT": port,
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    made = Checkout(tmp_path, port)
    yield made
    made.run("stop_worker.sh", STOP_TIMEOUT_S="0")


def test_a_started_service_is_ready_and_has_pid_and_log_and_a_stopped_one_is_gone(checkout: Checkout) -> None:
    started = checkout.run("start_worker.sh")
    assert (started.returncode, started.stderr) == (0, "")
    worker = checkout.worker
    assert worker is not None
    assert f"py_worker is ready (pid {worker.pid}) http://127.0.0.1:{checkout.port}" in started.stdout
    assert (checkout.folder / "logs" / "py_worker.log").exists()
    stopped = checkout.run("stop_worker.sh")
    assert stopped.stdout == f"py_worker stopped (pid {worker.pid})\n"
    assert not worker.alive
    assert checkout.worker is None


def test_a_second_start_starts_nothing_and_a_second_stop_is_content(checkout: Checkout) -> None:
    checkout.run("start_worker.sh")
    first = checkout.worker
    again = checkout.run("start_worker.sh")
    assert again.returncode == 0
    assert "running already" in again.stdout
    assert checkout.worker == first
    assert checkout.run("stop_worker.sh").returncode == 0
    assert checkout.run("stop_worker.sh").stdout == "nothing of the worker services is running\n"


def test_two_starts_at_the_same_moment_make_one_service(checkout: Checkout) -> None:
    command = [checkout.folder / "start_worker.sh"]
    env = os.environ | {"PYTHON": sys.executable}
    starts = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = sorted(start.communicate(timeout=60)[0] for start in starts)
    assert [start.returncode for start in starts] == [0, 0]
    assert "is ready" in told[0]
    assert "running already" in told[1]


def test_the_scripts_work_from_any_folder(checkout: Checkout) -> None:
    assert checkout.run("start_worker.sh", cwd=Path("/")).returncode == 0
    assert checkout.run("start_worker.sh", "status", cwd=Path("/")).stdout.startswith("py_worker runs (pid")
    assert checkout.run("stop_worker.sh", cwd=Path("/")).returncode == 0
    assert checkout.run("stop_worker.sh", "status", cwd=Path("/")).returncode == 3


def test_a_service_that_will_not_stop_is_killed_and_that_is_told(checkout: Checkout) -> None:
    checkout.run("start_worker.sh", WORKER_BEHAVES="deaf")
    worker = checkout.worker
    assert worker is not None
    stopped = checkout.run("stop_worker.sh", STOP_TIMEOUT_S="1")
    assert f"py_worker (pid {worker.pid}) did not stop within 1 s and was killed" in stopped.stderr
    assert not worker.alive


@pytest.mark.parametrize("behaviour", ["broken", "never_ready"])
def test_a_service_that_does_not_become_ready_fails_the_start_and_is_not_left_running(
    checkout: Checkout, behaviour: str
) -> None:
    timeout_s = "40" if behaviour == "broken" else "2"
    started = checkout.run("start_worker.sh", WORKER_BEHAVES=behaviour, START_TIMEOUT_S=timeout_s)
    assert started.returncode == 1
    assert "py_worker did not become ready; the last lines of logs/py_worker.log:" in started.stderr
    assert ("the worker has no work" in started.stderr) == (behaviour == "broken")
    assert checkout.worker is None


def test_without_settings_nothing_starts(checkout: Checkout) -> None:
    (checkout.folder / ".env").unlink()
    started = checkout.run("start_worker.sh")
    assert started.returncode == 1
    assert "what to do: cp .env.example .env" in started.stderr


def test_a_wrong_setting_is_named_without_its_value(checkout: Checkout) -> None:
    started = checkout.run("start_worker.sh", MAX_NODES_IN_FLIGHT="secret")
    assert started.returncode == 1
    assert "MAX_NODES_IN_FLIGHT: " in started.stderr
    assert "secret" not in started.stderr


def test_a_data_service_that_does_not_answer_is_named_with_its_address(checkout: Checkout) -> None:
    port = free_port()
    started = checkout.run("start_worker.sh", REDIS_URL=f"redis://:secret@{LOOPBACK}:{port}/0")
    assert started.returncode == 1
    assert f"Redis does not answer at {LOOPBACK}:{port}" in started.stderr
    assert "PostgreSQL" not in started.stderr
    assert "secret" not in started.stderr


def test_a_chain_without_a_node_is_named_without_the_path_of_its_url(checkout: Checkout) -> None:
    port = free_port()
    chains = f'[{{"chain_id": 1, "name": "main", "rpc_urls": ["http://{LOOPBACK}:{port}/secret"]}}]'
    started = checkout.run("start_worker.sh", CHAINS=chains)
    assert started.returncode == 1
    assert f"chain 1 (main): no node answers at {LOOPBACK}:{port}; .env: CHAINS" in started.stderr
    assert "secret" not in started.stderr


def test_a_taken_port_is_named_with_the_setting_that_changes_it(checkout: Checkout) -> None:
    with socket.create_server((LOOPBACK, checkout.port)):
        started = checkout.run("start_worker.sh")
    assert started.returncode == 1
    assert f"port {checkout.port} of py_worker is taken" in started.stderr
    assert "PY_WORKER_PORT" in started.stderr
    assert checkout.worker is None


def test_a_pid_file_of_a_foreign_process_is_stale(checkout: Checkout) -> None:
    (checkout.folder / "logs").mkdir()
    (checkout.folder / "logs" / "py_worker.pid").write_text(str(os.getpid()))
    assert checkout.run("start_worker.sh", "status").returncode == 3
    stopped = checkout.run("stop_worker.sh")
    assert stopped.stdout == "nothing of the worker services is running\n"
    assert checkout.run("start_worker.sh").returncode == 0


def test_an_unknown_argument_is_refused(checkout: Checkout) -> None:
    refused = checkout.run("stop_worker.sh", "now")
    assert refused.returncode == 1
    assert refused.stderr == "usage: stop_worker.sh [status]\n"
