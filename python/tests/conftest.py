"""Real servers for tests: started when the first test asks, private to this pytest run, gone at its end.

Sessions share the servers; tests never share data. `database_url`, `redis_url`, `rabbitmq_url` and `anvil` are
empty for every test that asks for them.
"""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

# Before anything imports web3: it keeps Python's own recursion limit, under which the services meet deep JSON.
import tradingflow.chain  # noqa: F401

# isort: split
from devstack.anvil import Anvil
from devstack.private_servers import PrivateServers, memory_folder
from devstack.run_lock import end_on_sigterm

# A test is judged by what it finds, never by how long the machine took. CI tries the same examples each time.
settings.register_profile("tradingflow", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tradingflow")

REPOSITORY = Path(__file__).resolve().parents[2]


def pytest_configure() -> None:
    """End on SIGTERM (a CI time-out) as on Ctrl-C, so that the servers are stopped then, too.

    Tracebacks are logged plainly: with the values of all variables, a deep recursion takes twenty seconds.
    """
    end_on_sigterm()
    *processors, _ = structlog.get_config()["processors"]
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, renderer])


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the collector need not walk through it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def servers() -> Iterator[PrivateServers]:
    """The lazy set of private servers of this run; prefer the per-test fixtures below."""
    with PrivateServers(REPOSITORY, memory_folder()) as running:
        yield running


@pytest.fixture
def database_url(servers: PrivateServers) -> Iterator[str]:
    """A database of its own with all migrations applied: `postgresql+asyncpg://…`."""
    with servers.fresh_database() as url:
        yield url


@pytest.fixture
def empty_database_url(servers: PrivateServers) -> Iterator[str]:
    """A database of its own without any table, for tests of the migrations themselves."""
    with servers.fresh_database(migrated=False) as url:
        yield url


@pytest.fixture
def redis_url(servers: PrivateServers) -> Iterator[str]:
    """An empty numbered Redis database: `redis://:…@127.0.0.1:…/n`."""
    with servers.fresh_redis() as url:
        yield url


@pytest.fixture
def rabbitmq_url(servers: PrivateServers) -> Iterator[str]:
    """An empty virtual host: `amqp://…/vhost`."""
    with servers.fresh_virtual_host() as url:
        yield url


@pytest.fixture
def anvil(servers: PrivateServers) -> Iterator[Anvil]:
    """A fresh chain (id 31337, 20 funded accounts) that mines with every transaction; `anvil.url`, `anvil.rpc(…)`."""
    with servers.fresh_chain() as chain:
        yield chain
