"""A private Redis: own configuration, append-only file, password."""

import shutil
import socket
from pathlib import Path

from devstack.errors import ServerMissing
from devstack.ports import LOOPBACK
from devstack.secret import local_password
from devstack.server import Server

CONFIGURATION = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
dir {directory}
appendonly yes
appendfsync {fsync}
save ""
databases {databases}
daemonize no
logfile ""
"""


class RedisServer(Server):
    """Redis from this machine's `redis-server`.

    `durable` flushes the append-only file every second (Redis' own default); without it that is left to the kernel.
    """

    name = "redis"
    databases = 1024

    def __init__(self, data_dir: Path, port: int, *, durable: bool = True) -> None:
        super().__init__(data_dir, port)
        self._durable = durable

    @property
    def password(self) -> str:
        """The password clients must give."""
        return local_password(self.data_dir / "password")

    @property
    def url(self) -> str:
        """`redis://:password@127.0.0.1:port/0`."""
        return self.url_for(0)

    @property
    def shown_url(self) -> str:
        """`redis://127.0.0.1:port/0`."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def url_for(self, database: int) -> str:
        """The URL of one of its numbered databases."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def is_ready(self) -> bool:
        """Whether it answers PING, which it refuses while it still loads its data."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = connection.makefile("rb")
                return answer.readline() == b"+OK\r\n" and answer.readline() == b"+PONG\r\n"
        except OSError:
            return False

    def _prepare(self) -> None:
        configuration = CONFIGURATION.format(
            host=LOOPBACK,
            port=self.port,
            password=self.password,
            directory=self.data_dir,
            fsync="everysec" if self._durable else "no",
            databases=self.databases,
        )
        file = self.data_dir / "redis.conf"
        file.touch(mode=0o600)
        file.write_text(configuration)

    def _launch(self) -> None:
        self.daemon.spawn([redis_program(), str(self.data_dir / "redis.conf")])


def redis_program() -> str:
    """The path of redis-server; raises ServerMissing."""
    program = shutil.which("redis-server")
    if program is None:
        raise ServerMissing("redis-server is not installed\n  what to do: apt-get install redis-server")
    return program
