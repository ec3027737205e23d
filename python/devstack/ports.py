"""Which ports the local platform uses, and who holds one that is taken.

The defaults of the data servers lie below the kernel's range for outgoing connections (32768 and up on
Linux), so that no client socket can happen to sit on one of them.
"""

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from devstack.errors import DevstackError, PortTaken
from devstack.proc import command_line, listener_of

LOOPBACK = "127.0.0.1"
PREFIX = "TRADINGFLOW_PORT_"
FREE_PORT_RANGE = range(20_000, 32_000)
SHOWN_COMMAND_LENGTH = 80


@dataclass(frozen=True)
class Ports:
    """The ports of `make run`; each is changed by the variable `TRADINGFLOW_PORT_<NAME>`."""

    postgres: int = 17432
    redis: int = 17379
    rabbitmq: int = 17672
    rabbitmq_management: int = 17673
    rabbitmq_distribution: int = 17674
    rabbitmq_epmd: int = 17675
    anvil: int = 17545
    account_manager: int = 7000
    py_worker: int = 7001
    monitor: int = 7002
    celery_worker: int = 7004
    celery_beat: int = 7005

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Ports":
        """The defaults, with what the environment changes; a port that is no number or not ours is refused."""
        known = {variable_for(field.name) for field in fields(cls)}
        if unknown := sorted(name for name in environment if name.startswith(PREFIX) and name not in known):
            raise DevstackError(f"{', '.join(unknown)}: no such port; allowed are {', '.join(sorted(known))}")
        chosen = {
            field.name: _port_number(variable, environment[variable])
            for field in fields(cls)
            if (variable := variable_for(field.name)) in environment
        }
        return cls(**chosen)

    def require_free(self, *names: str) -> None:
        """Raise PortTaken when another program listens on one of these ports."""
        for name in names:
            require_free(getattr(self, name), name)


def variable_for(name: str) -> str:
    """The environment variable that moves a port."""
    return f"{PREFIX}{name.upper()}"


def require_free(port: int, name: str) -> None:
    """Raise PortTaken, naming the holder and the way out, when the port cannot be listened on."""
    if can_listen(port):
        return
    pid = listener_of(port)
    holder = f"pid {pid} ({_shortened(command_line(pid))})" if pid else "a program this user cannot see"
    raise PortTaken(
        f"port {port} for {name.replace('_', ' ')} is taken by {holder}\n"
        f"  what to do: end that program, or choose another port with {variable_for(name)}=<port>"
    )


def _shortened(command: str) -> str:
    return command if len(command) <= SHOWN_COMMAND_LENGTH else f"{command[:SHOWN_COMMAND_LENGTH]}…"


def can_listen(port: int) -> bool:
    """Whether a server of ours could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on this port of the loopback interface."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False


def free_port() -> int:
    """A port no other test run and no outgoing connection will take before its server listens.

    Each port handed out stays locked (by a file lock) until this program ends.
    """
    lock_dir = Path(tempfile.gettempdir()) / f"tradingflow-ports-{os.getuid()}"
    lock_dir.mkdir(mode=0o700, exist_ok=True)
    for port in random.sample(FREE_PORT_RANGE, k=len(FREE_PORT_RANGE)):
        if _lock_port(lock_dir / str(port)) and can_listen(port):
            return port
    raise DevstackError(f"no free port found between {FREE_PORT_RANGE.start} and {FREE_PORT_RANGE.stop}")


def _lock_port(path: Path) -> bool:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)  # left open: the lock ends with this program
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    return True


def _port_number(variable: str, text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    raise DevstackError(f"{variable}={text!r} is not a port; allowed is a number from 1 to 65535")
