"""wait_healthy.sh against a stand-in for the engine: whose containers it waits for, and when it is content."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.deployment.deployment_files import REPOSITORY

SCRIPT = REPOSITORY / "python/scripts/wait_healthy.sh"

# Lists the containers of the project it is asked for, from a file of that name: one a line, as `inspect` shows them.
ENGINE = r"""#!/usr/bin/env bash
set -euo pipefail
case $1 in
  ps) file=${*: -1}; file=${file##*=}; echo "$file" >asked; [[ ! -f $file ]] || awk '{print FILENAME ":" $1}' "$file" ;;
  inspect) shift 3; for id; do grep "^${id#*:} " "${id%%:*}"; done ;;
esac
"""


class Folder:
    """The folder the script is run in, named `My Shop.2`."""

    def __init__(self, parent: Path) -> None:
        self.path = parent / "My Shop.2"
        self.path.mkdir()
        (parent / "bin").mkdir()
        engine = parent / "bin/docker"
        engine.write_text(ENGINE)
        engine.chmod(0o755)
        self._environment = {"PATH": f"{engine.parent}:{os.environ['PATH']}", "TIMEOUT_S": "0"}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            cwd=self.path,
            env=self._environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def asked(self) -> str:
        """The project the engine was asked for."""
        return (self.path / "asked").read_text().strip()

    def settings(self, text: str) -> None:
        (self.path / ".env").write_bytes(text.encode())

    def containers(self, project: str, *lines: str) -> None:
        (self.path / project).write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.mark.parametrize(
    ("line", "project"),
    [
        ("COMPOSE_PROJECT_NAME=shop", "shop"),
        ("COMPOSE_PROJECT_NAME=shop  # ours", "shop"),
        ("COMPOSE_PROJECT_NAME='shop' # ours", "shop"),
        ('COMPOSE_PROJECT_NAME="shop"', "shop"),
        ("export COMPOSE_PROJECT_NAME = shop\r", "shop"),
        ("COMPOSE_PROJECT_NAME=first\nCOMPOSE_PROJECT_NAME=shop", "shop"),
        ("COMPOSE_PROJECT_NAME=Shop_2", "shop_2"),
        ("COMPOSE_PROJECT_NAME=", "myshop2"),
        ("# COMPOSE_PROJECT_NAME=shop", "myshop2"),
        ("OTHER_COMPOSE_PROJECT_NAME=shop", "myshop2"),
    ],
)
def test_the_project_is_the_one_of_the_settings_here(folder: Folder, line: str, project: str) -> None:
    folder.settings(f"A=1\n{line}\nB=2\n")
    folder.run()
    assert folder.asked() == project


def test_the_environment_wins_over_the_settings_and_the_argument_over_both(folder: Folder) -> None:
    folder.settings("COMPOSE_PROJECT_NAME=settings\n")
    folder.run(COMPOSE_PROJECT_NAME="environment")
    assert folder.asked() == "environment"
    folder.run(COMPOSE_PROJECT_NAME="")
    assert folder.asked() == "myshop2"
    folder.run("argument", COMPOSE_PROJECT_NAME="environment")
    assert folder.asked() == "argument"


def test_without_any_name_it_is_the_folders(folder: Folder) -> None:
    folder.run()
    assert folder.asked() == "myshop2"


def test_it_is_content_when_all_are_healthy_and_the_one_shots_ended_well(folder: Folder) -> None:
    folder.containers("shop", "/web running 0 healthy", "/migrate exited 0 none", "/gateway running 0 none")
    done = folder.run("shop")
    assert done.returncode == 0, done.stderr
    assert "3 containers of 'shop' are well" in done.stdout


@pytest.mark.parametrize("bad", ["/web running 0 starting", "/web running 0 unhealthy", "/migrate exited 1 none"])
def test_what_is_not_well_is_named(folder: Folder, bad: str) -> None:
    folder.containers("shop", "/other running 0 healthy", bad)
    done = folder.run("shop")
    assert done.returncode == 1
    assert bad in done.stderr
    assert "/other" not in done.stderr


def test_a_project_without_containers_is_not_healthy(folder: Folder) -> None:
    done = folder.run("shop")
    assert done.returncode == 1
    assert "no containers" in done.stderr
