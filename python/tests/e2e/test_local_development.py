"""The README's block for running the services by hand, typed as it stands there."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[3]
START_TIMEOUT_S = 90
# Beat answers to nobody; once it says this, it ticks.
READY_LINES = {"worker": "ready.", "beat": "is starting."}
PORTS = {"account_manager": "ACCOUNT_MANAGER_PORT", "py_worker": "PY_WORKER_PORT", "monitor": "MONITOR_PORT"}


def block() -> list[str]:
    """The commands of the first `sh` block below "Local development"."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("## Local development")[2]
    found = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return [line.split("#")[0].strip() for line in found[1].splitlines()]


def test_the_block_brings_up_every_service(checkout: Path, installed: Path) -> None:
    (checkout / ".env").unlink()
    copy, install, enter, migrate, *services = block()
    assert install == "pip install -r python/requirements.txt"  # done by the fixture, faster
    environment = os.environ | {"PATH": f"{installed}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    typed = f"{copy} && {enter} && {migrate}"
    subprocess.run(["bash", "-c", typed], cwd=checkout, env=environment, check=True)
    assert len(services) == 5
    with ExitStack() as running:
        for command in services:
            running.enter_context(started(command, checkout / "python", environment))
        for command in services:
            ready = eventually(partial(is_ready, command, checkout), START_TIMEOUT_S)
            assert ready, log_of(command, checkout).read_text()[-3000:]


@contextmanager
def started(command: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    with log_of(command, folder.parent).open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=folder, env=environment, stdout=log, stderr=log
        )
        try:
            yield
            process.terminate()
            # uvicorn, once it has closed everything, ends by the signal it was sent.
            assert process.wait(30) in (0, -signal.SIGTERM), log_of(command, folder.parent).read_text()[-3000:]
        finally:
            process.kill()
            process.wait()


def log_of(command: str, checkout: Path) -> Path:
    return checkout / f"{command.replace(' ', '_').replace('/', '_')}.log"


def is_ready(command: str, checkout: Path) -> bool:
    log = log_of(command, checkout).read_text(errors="replace")
    for last, line in READY_LINES.items():
        if command.endswith(last):
            return line in log
    service = command.split(".")[1]
    settings = (checkout / ".env").read_text().splitlines()
    port = [line.partition("=")[2] for line in settings if line.startswith(PORTS[service])][-1]
    try:
        with urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
