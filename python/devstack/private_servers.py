"""The private servers of one pytest run, each started when it is first asked for."""

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import redis

from devstack.anvil import Anvil
from devstack.errors import DevstackError
from devstack.leftovers import remove_leftovers, write_owner
from devstack.ports import free_port
from devstack.postgres import PostgresServer
from devstack.rabbitmq import RabbitMQPorts, RabbitMQServer
from devstack.redis import RedisServer
from devstack.server import Server

FOLDER_PREFIX = "tradingflow-tests-"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (what lies there has a random name of ours)
# The servers of one run hold some 300 MB; several runs at once, and whatever else is there, shall find room.
ROOM_BYTES = 4 * 2**30
TEMPLATE = "migrated"

AnyServer = TypeVar("AnyServer", bound=Server)


class PrivateServers:
    """PostgreSQL, Redis, RabbitMQ and chains on free ports, with data nobody needs afterwards.

    `parent` is where that data lies meanwhile, by default the folder for temporary files.
    """

    def __init__(self, repository: Path, parent: Path | None = None) -> None:
        self._repository = repository
        self._parent = parent or Path(tempfile.gettempdir())
        self._opened = ExitStack()
        self._redis_databases = 0

    def __enter__(self) -> Self:
        remove_leftovers(self._parent, FOLDER_PREFIX)
        self._folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=self._parent))
        self._folder.chmod(0o711)  # PostgreSQL runs under another account when we are root
        self._opened.callback(shutil.rmtree, self._folder, ignore_errors=True)
        write_owner(self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @cached_property
    def postgres(self) -> PostgresServer:
        """The PostgreSQL of this run."""
        return self._run(PostgresServer(self._folder / "postgres", free_port(), durable=False))

    @cached_property
    def redis(self) -> RedisServer:
        """The Redis of this run."""
        return self._run(RedisServer(self._folder / "redis", free_port(), durable=False))

    @cached_property
    def rabbitmq(self) -> RabbitMQServer:
        """The RabbitMQ of this run."""
        ports = RabbitMQPorts(free_port(), free_port(), free_port(), free_port())
        return self._run(RabbitMQServer(self._folder / "rabbitmq", ports))

    @contextmanager
    def fresh_database(self, *, migrated: bool = True) -> Iterator[str]:
        """The URL of a new database, a copy of one that all migrations ran on, or empty."""
        name = _unique_name()
        template = self._migrated_template if migrated else "template0"
        self.postgres.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield self.postgres.url_for(name)
        finally:
            self.postgres.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    @contextmanager
    def fresh_redis(self) -> Iterator[str]:
        """The URL of an empty numbered database, emptied again afterwards."""
        self._redis_databases += 1
        url = self.redis.url_for(self._redis_databases % self.redis.databases)
        _flush(url)
        try:
            yield url
        finally:
            _flush(url)

    @contextmanager
    def fresh_virtual_host(self) -> Iterator[str]:
        """The URL of an empty virtual host, removed afterwards."""
        name = _unique_name()
        self.rabbitmq.create_virtual_host(name)
        try:
            yield self.rabbitmq.url_for(name)
        finally:
            self.rabbitmq.delete_virtual_host(name)

    @contextmanager
    def fresh_chain(self, *, block_time_s: float | None = None, persistent: bool = False) -> Iterator[Anvil]:
        """A chain of its own, started and ended with the block."""
        folder = self._folder / _unique_name()
        chain = Anvil(
            folder, free_port(), repository=self._repository, block_time_s=block_time_s, persistent=persistent
        )
        with _running(chain):
            yield chain
        shutil.rmtree(folder, ignore_errors=True)

    @cached_property
    def _migrated_template(self) -> str:
        self.postgres.execute(f'CREATE DATABASE "{TEMPLATE}" TEMPLATE template0')
        migrate(self._repository, self.postgres.url_for(TEMPLATE))
        return TEMPLATE

    def _run(self, server: AnyServer) -> AnyServer:
        return self._opened.enter_context(_running(server))


def memory_folder() -> Path | None:
    """A folder whose files lie in memory, where there is one with room.

    Each database that is made and dropped is 600 files: on ext4, which looks at every file lately removed before it
    makes one, 0.21 s of a core; here 0.04 s.
    """
    try:
        has_room = shutil.disk_usage(SHARED_MEMORY).free >= ROOM_BYTES
    except OSError:
        return None
    return SHARED_MEMORY if has_room and os.access(SHARED_MEMORY, os.W_OK) else None


@contextmanager
def _running(server: AnyServer) -> Iterator[AnyServer]:
    """Start a server and discard it afterwards, also when the start is interrupted."""
    try:
        server.start()
        yield server
    finally:
        server.discard()


def migrate(repository: Path, database_url: str) -> None:
    """Bring a database to the newest schema, in a process of its own as an operator would."""
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=repository / "python",
        env=os.environ | {"DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DevstackError(
            f"the migrations failed\n{done.stderr[-4000:]}\n  what to do: cd python && alembic upgrade head"
        )


def _unique_name() -> str:
    return f"test_{uuid.uuid4().hex[:12]}"


def _flush(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushdb()
