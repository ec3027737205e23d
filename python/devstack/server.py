"""What the four data servers have in common: prepare, start until ready, stop, kill, restart."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from devstack.daemon import Daemon
from devstack.ports import require_free
from devstack.readiness import wait_until_ready


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

    @property
    @abstractmethod
    def shown_url(self) -> str:
        """What a person is shown: the URL without the password."""

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
        return Daemon(self.name, self.data_dir, port=self.port, url=self.shown_url)

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
        wait_until_ready(self.daemon, self.is_ready, timeout_s=self.ready_timeout_s, advice=self.advice)

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
