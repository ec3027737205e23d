"""A private RabbitMQ: own node name, ports, cookie, data and log folder; 3.10 and 4.x alike."""

import base64
import http.client
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from devstack.daemon import Daemon
from devstack.errors import DevstackError, ServerMissing
from devstack.ports import LOOPBACK, accepts_connections, require_free
from devstack.secret import local_password
from devstack.server import Server

USER = "tradingflow"
PLUGINS = ("rabbitmq_management", "rabbitmq_consistent_hash_exchange")
# Debian's /usr/sbin/rabbitmq-server insists on the account rabbitmq; the script it wraps does not.
PROGRAMS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/rabbitmq/sbin/rabbitmq-server")

CONFIGURATION = """\
listeners.tcp.local = {host}:{port}
management.tcp.ip = {host}
management.tcp.port = {management}
default_user = {user}
default_pass = {password}
log.file = false
log.console = true
log.console.level = info
disk_free_limit.absolute = 100MB
"""

# Two schedulers without busy waiting: on a small machine an idle broker must cost nothing.
ERLANG_OPTIONS = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"


@dataclass(frozen=True)
class RabbitMQPorts:
    """The four ports one broker needs."""

    amqp: int
    management: int
    distribution: int
    epmd: int


class RabbitMQServer(Server):
    """A broker and the Erlang port mapper (epmd) of its own that it registers with."""

    name = "rabbitmq"
    ready_timeout_s = 90
    stop_timeout_s = 40

    def __init__(self, data_dir: Path, ports: RabbitMQPorts) -> None:
        self._ports = ports
        super().__init__(data_dir, ports.amqp)
        self._epmd = Daemon("rabbitmq-epmd", self.data_dir / "epmd", port=ports.epmd)

    @property
    def password(self) -> str:
        """The password of the administrator `tradingflow`."""
        return local_password(self.data_dir / "password")

    @property
    def url(self) -> str:
        """`amqp://tradingflow:password@127.0.0.1:port/%2F`, the default virtual host."""
        return self.url_for("/")

    def url_for(self, virtual_host: str) -> str:
        """The URL of one of its virtual hosts."""
        return f"amqp://{USER}:{self.password}@{LOOPBACK}:{self.port}/{quote(virtual_host, safe='')}"

    @property
    def shown_url(self) -> str:
        """Where a person looks at queues in a browser; the login is `tradingflow` and the password."""
        return f"http://{LOOPBACK}:{self._ports.management}"

    def create_virtual_host(self, name: str) -> None:
        """Make an empty virtual host the user has all rights on."""
        vhost = quote(name, safe="")
        self._manage("PUT", f"/api/vhosts/{vhost}")
        everything = '{"configure":".*","write":".*","read":".*"}'
        self._manage("PUT", f"/api/permissions/{vhost}/{USER}", everything)

    def delete_virtual_host(self, name: str) -> None:
        """Remove a virtual host with its queues, exchanges and connections."""
        self._manage("DELETE", f"/api/vhosts/{quote(name, safe='')}")

    def is_ready(self) -> bool:
        """Whether the broker serves AMQP and its management interface answers."""
        if not accepts_connections(self.port):
            return False
        try:
            self._manage("GET", "/api/vhosts")
        except (OSError, http.client.HTTPException, DevstackError):
            return False
        return True

    def stop(self) -> bool:
        """End broker and port mapper."""
        graceful = super().stop()
        self._epmd.stop()
        self._end_stray_port_mapper()
        return graceful

    def kill(self) -> None:
        """SIGKILL broker and port mapper."""
        super().kill()
        self._epmd.kill()
        self._end_stray_port_mapper()

    def discard(self) -> None:
        """A graceful stop takes some six seconds, which only data worth keeping deserves."""
        self.kill()

    def _prepare(self) -> None:
        rabbitmq_program()
        self._end_stray_port_mapper()
        for name in ("management", "distribution", "epmd"):
            if name != "epmd" or not self._epmd.is_alive:
                require_free(getattr(self._ports, name), f"rabbitmq_{name}")
        (self.data_dir / "data").mkdir(exist_ok=True)
        (self.data_dir / "enabled_plugins").write_text(f"[{','.join(PLUGINS)}].\n")
        (self.data_dir / "rabbitmq-env.conf").touch()
        self._write_cookie()
        configuration = self.data_dir / "rabbitmq.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            CONFIGURATION.format(
                host=LOOPBACK,
                port=self.port,
                management=self._ports.management,
                user=USER,
                password=self.password,
            )
        )

    def _write_cookie(self) -> None:
        """Erlang demands a cookie file of mode 400 in the home folder; clients of this node need the same."""
        local_password(self.data_dir / ".erlang.cookie")
        (self.data_dir / ".erlang.cookie").chmod(0o400)

    def _end_stray_port_mapper(self) -> None:
        """A broker whose port mapper dies starts one by itself, which would outlive the broker and hold our port."""
        if not self._epmd.is_alive and accepts_connections(self._ports.epmd):
            command = [epmd_program(), "-port", str(self._ports.epmd), "-kill"]
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)

    def _launch(self) -> None:
        environment = self._environment()
        if not self._epmd.is_alive:
            self._epmd.spawn([epmd_program(), "-address", LOOPBACK, "-port", str(self._ports.epmd)], env=environment)
        self.daemon.spawn([rabbitmq_program()], env=environment, cwd=self.data_dir)

    def _environment(self) -> Mapping[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_"))}
        return inherited | {
            "HOME": str(self.data_dir),
            "ERL_EPMD_PORT": str(self._ports.epmd),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": f"tradingflow-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._ports.distribution),
            "RABBITMQ_CONFIG_FILE": str(self.data_dir / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.data_dir / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.data_dir / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.data_dir / "data"),
            "RABBITMQ_LOG_BASE": str(self.data_dir),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_OPTIONS,
            # Makes the start script become the broker instead of standing between us and its signals.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _manage(self, method: str, path: str, body: str | None = None) -> None:
        login = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        connection = http.client.HTTPConnection(LOOPBACK, self._ports.management, timeout=10)
        try:
            headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise DevstackError(f"RabbitMQ answered {response.status} {response.reason} to {method} {path}")


def rabbitmq_program() -> str:
    """The path of the script that starts a broker; raises ServerMissing."""
    for program in PROGRAMS:
        if Path(program).exists():
            return program
    on_path = shutil.which("rabbitmq-server")
    if on_path is None:
        raise ServerMissing("rabbitmq-server is not installed\n  what to do: apt-get install rabbitmq-server")
    return on_path


def epmd_program() -> str:
    """The path of Erlang's port mapper; raises ServerMissing."""
    program = shutil.which("epmd")
    if program is None:
        raise ServerMissing("epmd (part of Erlang) is not installed\n  what to do: apt-get install erlang-base")
    return program
