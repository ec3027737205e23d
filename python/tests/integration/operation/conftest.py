"""Settings that point to this test's own database, Redis and virtual host."""

from pathlib import Path

import pytest

from devstack.private_servers import PrivateServers
from tradingflow.core.config import PlatformSettings


@pytest.fixture
def settings(database_url: str, redis_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch) -> PlatformSettings:
    """What a service of this test's platform would read; also in the environment, for commands."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("RABBITMQ_URL", rabbitmq_url)
    monkeypatch.setenv("RABBITMQ_VHOST", rabbitmq_url.rpartition("/")[2])
    return PlatformSettings()


@pytest.fixture
def management_url(servers: PrivateServers, monkeypatch: pytest.MonkeyPatch) -> str:
    """RabbitMQ's management API, its login in the environment."""
    monkeypatch.setenv("RABBITMQ_USER", "tradingflow")
    monkeypatch.setenv("RABBITMQ_PASSWORD", servers.rabbitmq.password)
    return servers.rabbitmq.shown_url


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    """An empty folder for back-ups."""
    return tmp_path / "backups"
