"""One TradingFlow process (a server, a Celery worker, beat) as a supervised child."""

import http.client
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from devstack.daemon import Daemon
from devstack.ports import require_free
from devstack.readiness import wait_until_ready

ADVICE = "read the log above; every setting is explained in .env.example"


class ServiceProcess:
    """A command run from `python/`, ready when its readiness check says so.

    `ready_url` is polled for a 200; `ready` is any other check; with neither, running is enough.
    The environment given is added to ours.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        cwd: Path,
        env: Mapping[str, str],
        port: int | None = None,
        url: str | None = None,
        ready_url: str | None = None,
        ready: Callable[[], bool] | None = None,
        ready_timeout_s: float = 60,
        stop_timeout_s: float = 20,
    ) -> None:
        self.name = name
        self.port = port
        self.url = url
        self.daemon = Daemon(name, directory, port=port, url=url, ready_url=ready_url)
        self._command = list(command)
        self._cwd = cwd
        self._env = os.environ | dict(env)
        self._ready = ready if ready_url is None else lambda: answers_ok(ready_url)
        self._ready_timeout_s = ready_timeout_s
        self._stop_timeout_s = stop_timeout_s

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.daemon.is_alive

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        return self.daemon.pid

    def is_ready(self) -> bool:
        """Whether it can do its work now."""
        return self.is_alive and (self._ready is None or self._ready())

    def start(self) -> None:
        """Start it and return once it is ready; raises PortTaken or ServerFailed with the end of its log."""
        if not self.is_alive:
            if self.port is not None:
                require_free(self.port, self.name)
            self.daemon.spawn(self._command, env=self._env, cwd=self._cwd)
        wait_until_ready(self.daemon, self.is_ready, timeout_s=self._ready_timeout_s, advice=ADVICE)

    def stop(self) -> bool:
        """SIGTERM, then SIGKILL after the time-out; False when it came to that."""
        return self.daemon.stop(self._stop_timeout_s)

    def kill(self) -> None:
        """SIGKILL, to it and all it started."""
        self.daemon.kill()

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()


def answers_ok(url: str) -> bool:
    """Whether a GET of this http URL is answered with 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
