"""What the four data servers have in common: prepare, start until ready, stop, kill, restart."""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from devstack.daemon import Daemon
from devstack.errors import ServerFailed
from devstack.ports import require_free

READY_POLL_INTERVAL_S = 0.03


class Server(ABC):
    """A data server on the loopback interface that keeps everything it has in one directory.

    Starting it again on the same directory and port brings back the same data.
    """

    name: ClassVar[str]
    ready_timeout_s: ClassVar[float] = 60
    stop_timeout_s: ClassVar[float] = 20
    advice: ClassVar[str] = "read the whole log; `make clean` removes the data and starts afresh"

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.daemon = self._daemon()

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect; holds the password where there is one."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the running server answers clients now."""

    @abstractmethod
    def _prepare(self) -> None:
        """Write configuration and, the first time, the empty data; called before every start."""

    @abstractmethod
    def _launch(self) -> None:
        """Spawn the process through `self.daemon`."""

    def _daemon(self) -> Daemon:
        return Daemon(self.name, self.data_dir, port=self.port)

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.daemon.is_alive

    @property
    def pid(self) -> int | None:
        """Its pid while it runs."""
        return self.daemon.pid

    def start(self) -> None:
        """Bring it up and return once it is ready; does nothing when it is running already.

        Raises PortTaken, ServerMissing, or ServerFailed with the end of the server's log.
        """
        if not self.is_alive:
            require_free(self.port, self.name)
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._prepare()
            self._launch()
        self._wait_until_ready()

    def stop(self) -> bool:
        """End it gracefully; False when it had to be killed after the time-out."""
        return self.daemon.stop(self.stop_timeout_s)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL to the server and all its children."""
        self.daemon.kill()

    def discard(self) -> None:
        """End it when nobody needs its data any more: the quickest way that leaves nothing behind."""
        self.stop()

    def restart(self) -> None:
        """Stop it and start it with the same data on the same port."""
        self.stop()
        self.start()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.ready_timeout_s
        while not self.is_ready():
            if not self.is_alive:
                raise self._failure(f"ended while starting (exit code {self.daemon.exit_code})")
            if time.monotonic() > deadline:
                self.kill()
                raise self._failure(f"was not ready within {self.ready_timeout_s:.0f} s")
            time.sleep(READY_POLL_INTERVAL_S)

    def _failure(self, what: str) -> ServerFailed:
        return ServerFailed(self.name, what, self.daemon.log_file, self.daemon.log_tail(), self.advice)
