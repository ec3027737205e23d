"""Three ways to have PostgreSQL, Redis and RabbitMQ: native servers, the compose file, or the URLs of `.env`."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from devstack.errors import DevstackError
from devstack.ports import LOOPBACK, Ports
from devstack.postgres import PostgresServer
from devstack.rabbitmq import RabbitMQPorts, RabbitMQServer
from devstack.redis import RedisServer
from devstack.secret import local_password
from devstack.supervisor import Supervisor

COMPOSE_FILE = "docker-compose-db-redis-mq.yml"
COMPOSE_PROJECT = "tradingflow-run"
CONTAINERS = ("postgres", "redis", "rabbitmq")
USER = "tradingflow"


@dataclass(frozen=True)
class DataUrls:
    """Database, cache and broker."""

    database: str
    redis: str
    rabbitmq: str


class DataServices(Protocol):
    """One way to have the three data services."""

    def start(self) -> DataUrls:
        """Bring them up, or check that they are; returns where they are."""

    def stop(self) -> list[str]:
        """Stop what was started; the names of what had to be killed."""


class NativeServices:
    """Servers of this machine on private ports with their data below one folder, started again when they die."""

    def __init__(self, folder: Path, ports: Ports, say: Callable[[str], None]) -> None:
        broker_ports = RabbitMQPorts(
            ports.rabbitmq, ports.rabbitmq_management, ports.rabbitmq_distribution, ports.rabbitmq_epmd
        )
        self.postgres = PostgresServer(folder / "postgres", ports.postgres)
        self.redis = RedisServer(folder / "redis", ports.redis)
        self.rabbitmq = RabbitMQServer(folder / "rabbitmq", broker_ports)
        self._supervisor = Supervisor(say)

    def start(self) -> DataUrls:
        """Start the three side by side."""
        self._supervisor.start(self.postgres, self.redis, self.rabbitmq)
        return DataUrls(self.postgres.url, self.redis.url, self.rabbitmq.url)

    def stop(self) -> list[str]:
        """Stop the three side by side."""
        return self._supervisor.stop()


class ComposeServices:
    """The containers of the compose file, on the same private ports, under a project name of their own."""

    def __init__(self, repository: Path, folder: Path, ports: Ports, say: Callable[[str], None]) -> None:
        self._repository = repository
        self._ports = ports
        self._folder = folder
        self._password = local_password(folder / "password")
        self._say = say

    def start(self) -> DataUrls:
        """`docker compose up`, waiting for every health check of the file."""
        # Named, because --wait takes the end of the one-shot secrets-check for a failure.
        self._compose("up", "--detach", "--wait", "--wait-timeout", "120", *CONTAINERS)
        self._say("containers of the data services ready")
        login = f"{USER}:{self._password}@{LOOPBACK}"
        return DataUrls(
            database=f"postgresql+asyncpg://{login}:{self._ports.postgres}/{USER}",
            redis=f"redis://:{self._password}@{LOOPBACK}:{self._ports.redis}/0",
            rabbitmq=f"amqp://{login}:{self._ports.rabbitmq}/{USER}",
        )

    def stop(self) -> list[str]:
        """Stop the containers; their volumes stay."""
        self._compose("stop")
        return []

    def _compose(self, *arguments: str) -> None:
        command = ["docker", "compose", "--project-name", COMPOSE_PROJECT, "--file", COMPOSE_FILE, *arguments]
        done = subprocess.run(
            command,
            cwd=self._repository,
            env=os.environ | self._settings(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise DevstackError(
                f"docker compose {arguments[0]} failed\n{done.stderr[-2000:]}\n"
                "  what to do: look at `docker compose logs`, or run with SERVICES=native"
            )

    def _settings(self) -> dict[str, str]:
        return {
            "POSTGRES_USER": USER,
            "POSTGRES_DB": USER,
            "POSTGRES_PASSWORD": self._password,
            "POSTGRES_PORT": str(self._ports.postgres),
            "REDIS_PASSWORD": self._password,
            "REDIS_PORT": str(self._ports.redis),
            "RABBITMQ_USER": USER,
            "RABBITMQ_VHOST": USER,
            "RABBITMQ_PASSWORD": self._password,
            "RABBITMQ_PORT": str(self._ports.rabbitmq),
            "RABBITMQ_MANAGEMENT_PORT": str(self._ports.rabbitmq_management),
            "ENVIRONMENT": "local",
            "DATA_BIND_ADDRESS": LOOPBACK,
            "DOCKER_NETWORK": COMPOSE_PROJECT,
            **{f"{name.upper()}_DATA_DIR": str(self._folder / name) for name in CONTAINERS},
        }


class GivenServices:
    """Servers somebody else runs, named by `.env`; only checked, never started or stopped."""

    def __init__(self, urls: DataUrls) -> None:
        self._urls = urls

    def start(self) -> DataUrls:
        """Raises DevstackError that lists every server that cannot be reached."""
        named = {
            "PostgreSQL (DATABASE_URL or POSTGRES_*)": self._urls.database,
            "Redis (REDIS_URL or REDIS_*)": self._urls.redis,
            "RabbitMQ (RABBITMQ_URL or RABBITMQ_*)": self._urls.rabbitmq,
        }
        unreachable = [f"  {name} at {where}" for name, url in named.items() if (where := _unreachable(url))]
        if unreachable:
            raise DevstackError(
                "SERVICES=env, but these of .env cannot be reached:\n"
                + "\n".join(unreachable)
                + "\n  what to do: start them or correct .env, or run with SERVICES=native"
            )
        return self._urls

    def stop(self) -> list[str]:
        """Nothing was started."""
        return []


def docker_answers() -> bool:
    """Whether a Docker engine with the compose plugin answers."""
    if shutil.which("docker") is None:
        return False
    probes = (["docker", "info"], ["docker", "compose", "version"])
    return all(_succeeds(probe) for probe in probes)


def _succeeds(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _unreachable(url: str) -> str | None:
    """`host:port` when nobody listens there; None when somebody does."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    try:
        with socket.create_connection((host, port), timeout=3):
            return None
    except OSError:
        return f"{host}:{port}"
