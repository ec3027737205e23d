"""Everything below the services for `make run`: the three data services and the local chain."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.anvil import Anvil
from devstack.data_services import (
    ComposeServices,
    DataServices,
    DataUrls,
    GivenServices,
    NativeServices,
    docker_answers,
)
from devstack.endpoints import Endpoints
from devstack.errors import DevstackError
from devstack.ports import Ports
from devstack.supervisor import Supervisor

CHOICES = ("native", "docker", "env")


class Stack:
    """A context that brings data services and chain up and stops them at its end.

    `kind` is one of CHOICES; `say` receives lines for a person, also from threads, whenever something comes up,
    dies or comes back. Data is kept below `.local/` from one run to the next.
    """

    def __init__(
        self,
        repository: Path,
        say: Callable[[str], None],
        *,
        kind: str | None = None,
        ports: Ports | None = None,
        block_time_s: float | None = None,
    ) -> None:
        self.ports = ports or Ports.from_environment()
        self.kind = kind or chosen_kind()
        self.folder = repository / ".local"
        self.chain = Anvil(self.folder / "anvil", self.ports.anvil, repository=repository, block_time_s=block_time_s)
        self._say = say
        self._data = self._data_services(repository)
        self._supervisor = Supervisor(say)

    def start(self) -> Endpoints:
        """Start what is not running and return where everything is; raises DevstackError when it cannot."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            data = pool.submit(self._data.start)
            chain = pool.submit(self._supervisor.start, self.chain)
        urls = data.result()
        chain.result()
        return Endpoints(urls.database, urls.redis, urls.rabbitmq, self.chain.url)

    def stop(self) -> list[str]:
        """Stop all that was started, keeping the data; the names of what had to be killed."""
        return [*self._supervisor.stop(), *self._data.stop()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self.stop():
            self._say(f"{name} did not stop in time and was killed")

    def _data_services(self, repository: Path) -> DataServices:
        if self.kind == "env":
            return GivenServices(_urls_of_settings())
        if self.kind == "docker":
            return ComposeServices(repository, self.folder / "docker", self.ports, self._say)
        return NativeServices(self.folder, self.ports, self._say)


def chosen_kind(environment: Mapping[str, str] = os.environ) -> str:
    """What SERVICES says; without it docker where an engine answers, else native."""
    kind = environment.get("SERVICES", "")
    if kind in CHOICES:
        return kind
    if kind:
        raise DevstackError(f"SERVICES={kind!r} is not known; allowed are {', '.join(CHOICES)}")
    return "docker" if docker_answers() else "native"


def _urls_of_settings() -> DataUrls:
    from tradingflow.core.config import PlatformSettings  # reads .env, which the other two ways must not

    settings = PlatformSettings()
    return DataUrls(settings.database_dsn, settings.redis_dsn, settings.rabbitmq_dsn)
