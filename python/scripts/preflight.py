"""Asked by the start scripts before they start a group of services: is `.env` good, is everything reachable?

Prints `service host port` for each service of the group that listens; explains on standard error and exits 1 otherwise.
"""

import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tradingflow.core.config import (
    AccountManagerSettings,
    BeatSettings,
    ExecutorSettings,
    MonitorSettings,
    PlatformSettings,
    WorkerSettings,
)

CONNECT_TIMEOUT_S = 3
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def listeners(group: str) -> dict[str, tuple[str, int]]:
    """Where each service of a group listens, by its name; those that were told not to are left out."""
    if group == "worker":
        worker = WorkerSettings()
        return {"py_worker": (worker.py_worker_host, worker.py_worker_port)}
    account, executor, beat, monitor = AccountManagerSettings(), ExecutorSettings(), BeatSettings(), MonitorSettings()
    listening = {
        "account_manager": (account.account_manager_host, account.account_manager_port),
        "celery_worker": (executor.celery_worker_host, executor.celery_worker_port),
        "celery_beat": (beat.celery_beat_host, beat.celery_beat_port),
        "monitor": (monitor.monitor_host, monitor.monitor_port),
    }
    return {name: (host, port) for name, (host, port) in listening.items() if port}


def unreachable(settings: PlatformSettings) -> list[str]:
    """A line for each data service, and each chain, nobody answers for."""
    needed = {
        "PostgreSQL": (settings.database_dsn, "DATABASE_URL or POSTGRES_*"),
        "Redis": (settings.redis_dsn, "REDIS_URL or REDIS_*"),
        "RabbitMQ": (settings.rabbitmq_dsn, "RABBITMQ_URL or RABBITMQ_*"),
    }
    lines = [
        f"{name} does not answer at {_address(url)}; .env: {variables}"
        for name, (url, variables) in needed.items()
        if not _answers(url)
    ]
    for chain in settings.chains:
        if not any(map(_answers, chain.rpc_urls)):
            nodes = ", ".join(map(_address, chain.rpc_urls))
            lines.append(f"chain {chain.chain_id} ({chain.name}): no node answers at {nodes}; .env: CHAINS")
    return lines


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    where = (parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0))
    try:
        socket.create_connection(where, timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _address(url: str) -> str:
    """Host and port only: a path may hold a provider's key."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or DEFAULT_PORTS.get(parts.scheme, 0)}"


def invalid_settings(problem: ValidationError) -> list[str]:
    """A line for each setting that is wrong, without its value."""
    return [
        f"{'.'.join(map(str, error['loc'])).upper() or 'settings'}: {error['msg']}"
        for error in problem.errors(include_input=False, include_url=False)
    ]


def main(group: str) -> int:
    """0 when the group can start."""
    try:
        servers, settings = listeners(group), PlatformSettings()
    except ValidationError as problem:
        return refuse(invalid_settings(problem), "correct .env; .env.example explains every setting")
    if missing := unreachable(settings):
        return refuse(missing, "start them (the data services: docker-compose-db-redis-mq.yml) or correct .env")
    for name, (host, port) in servers.items():
        print(name, host, port)
    return 0


def refuse(problems: list[str], advice: str) -> int:
    """Tell a person what is wrong; the exit code."""
    print(*problems, f"what to do: {advice}", sep="\n", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
