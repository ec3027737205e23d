"""One project of the real compose files, with settings of its own."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from devstack.errors import DevstackError

REPOSITORY = Path(__file__).resolve().parents[2]
DATA_FILE = "docker-compose-db-redis-mq.yml"
SERVICES_FILE = "docker-compose-account-and-worker.yml"
HEALTHY_TIMEOUT_S = 180
KEPT_ENVIRONMENT = frozenset({"PATH", "HOME", "DOCKER_HOST", "DOCKER_BUILDKIT", "COMPOSE_DOCKER_CLI_BUILD"})


class Project:
    """One `docker-compose -f … --env-file …`."""

    def __init__(
        self,
        name: str,
        files: Sequence[str],
        settings: Mapping[str, str],
        folder: Path,
        directory: Path = REPOSITORY,
    ) -> None:
        self.name = name
        self.directory = directory
        self._env_file = folder / f"{name}.env"
        everything = {**settings, "COMPOSE_PROJECT_NAME": name, "DOCKER_NETWORK": name}
        self._env_file.write_text("".join(f"{key}='{value}'\n" for key, value in everything.items()))
        self._command = [*compose_command(), "--env-file", str(self._env_file), "-p", name]
        self._command += [part for file in files for part in ("-f", file)]

    def run(self, *arguments: str) -> str:
        """The command's standard output; raises DevstackError with the end of what it said."""
        # The project's name and tags must come from the file, not from whoever started us.
        environment = {key: value for key, value in os.environ.items() if key in KEPT_ENVIRONMENT}
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DevstackError(f"{' '.join(arguments)} of {self.name} failed\n{(done.stdout + done.stderr)[-4000:]}")
        return done.stdout

    def up(self, *options: str) -> float:
        """Start everything; how many seconds until all of it was healthy."""
        began = time.monotonic()
        try:
            self.run("up", "-d", *options)
        except DevstackError as problem:
            raise DevstackError(f"{problem}\n{self.run('logs', '--no-color', '--tail', '15')[-12000:]}") from problem
        self.wait_healthy()
        return time.monotonic() - began

    def down(self) -> float:
        """Stop and remove the containers; how many seconds that took."""
        began = time.monotonic()
        self.run("down", "--remove-orphans", "--timeout", "30")
        return time.monotonic() - began

    @property
    def command(self) -> list[str]:
        """The words that start every command of this project."""
        return list(self._command)

    def rows(self, query: str) -> list[list[str]]:
        """What psql answers in the container `postgres`, one list a row."""
        said = self.run("exec", "-T", "postgres", "psql", "-U", "tradingflow", "-d", "tradingflow", "-Atc", query)
        return [line.split("|") for line in said.splitlines() if line]

    def containers(self) -> dict[str, str]:
        """Container id to its name, of those that run."""
        listing = ["docker", "ps", "--filter", f"label=com.docker.compose.project={self.name}"]
        done = subprocess.run(
            [*listing, "--no-trunc", "--format", "{{.ID}} {{.Names}}"], capture_output=True, text=True, check=True
        )
        return dict(line.split() for line in done.stdout.splitlines())

    def wait_healthy(self) -> None:
        """Until every container is healthy; raises DevstackError with the last lines of the logs."""
        script = [str(REPOSITORY / "python/scripts/wait_healthy.sh"), self.name]
        environment = os.environ | {"TIMEOUT_S": str(HEALTHY_TIMEOUT_S)}
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DevstackError(f"{done.stderr}\n{self.run('logs', '--tail', '30')[-8000:]}")


def compose_command() -> list[str]:
    """`docker-compose` where there is one, else `docker compose`; raises DevstackError when there is neither."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    raise DevstackError("no docker-compose here\n  what to do: install Docker with Compose")
