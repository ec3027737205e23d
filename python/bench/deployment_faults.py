"""What can go wrong with a deployment, done for real: how to break it, and how to mend what does not mend itself."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.loaded_deployment import LoadedDeployment
from bench.shifted_clocks import ShiftedClocks

# Those that look at a clock.
CLOCKED_SERVICES = ("account-manager", "celery-worker", "celery-beat", "monitor", "py-worker")
SERVICES = (*CLOCKED_SERVICES, "gateway")
DATA_SERVICES = ("postgres", "redis", "rabbitmq")
# A log folder this small is full within moments.
LOG_FOLDER_MB = 4
# What a wrong time zone and summer time do to a clock that keeps local time.
CLOCK_STEP_S = 3600


@dataclass(frozen=True)
class Fault:
    """`mend` None: it recovers by itself. It is left broken for `hold_s` seconds."""

    name: str
    break_it: Callable[[], None]
    hold_s: float
    mend: Callable[[], None] | None = None


def all_faults(deployed: LoadedDeployment, clocks: ShiftedClocks, hold_s: float) -> list[Fault]:
    """Every fault of the table, the mild ones first."""
    made = _Maker(deployed, clocks, hold_s)
    killed = [made.killed(name) for name in (*SERVICES, *DATA_SERVICES)]
    stopped = [made.stopped(name) for name in (*SERVICES, *DATA_SERVICES)]
    return [*killed, *stopped, *made.others()]


class _Maker:
    def __init__(self, deployed: LoadedDeployment, clocks: ShiftedClocks, hold_s: float) -> None:
        self._deployed = deployed
        self._clocks = clocks
        self._hold_s = hold_s

    def killed(self, service: str) -> Fault:
        """kill -9 of the container's main process, as the kernel does when memory runs out."""
        return Fault(f"kill_{service}", lambda: os.kill(self._pid(service), signal.SIGKILL), 1.0)

    def stopped(self, service: str) -> Fault:
        """Somebody stops the container, and starts it again after a while."""
        project = self._deployed.project
        return Fault(
            f"stop_{service}",
            lambda: _quietly(project.run, "stop", service),
            self._hold_s,
            lambda: _quietly(project.run, "start", service),
        )

    def clock_off(self, name: str, seconds: int) -> Fault:
        """The clock of the services' machine steps, the data servers' does not; later it steps back."""
        shift = self._clocks.shift
        return Fault(name, lambda: shift(seconds), self._hold_s, lambda: shift(0))

    def others(self) -> list[Fault]:
        chain = self._deployed.world.chain_pid
        return [
            Fault("log_disk_full", self._fill_log_folder, self._hold_s, self._empty_log_folder),
            Fault("postgres_read_only", lambda: self._read_only("on"), self._hold_s, lambda: self._read_only("off")),
            Fault(
                "rabbitmq_memory_alarm",
                lambda: self._watermark("0.00001"),
                self._hold_s,
                lambda: self._watermark("0.4"),
            ),
            self.clock_off("clock_ahead", CLOCK_STEP_S),
            self.clock_off("clock_behind", -CLOCK_STEP_S),
            Fault("redis_emptied", self._flush_redis, 1.0),
            Fault(
                "rpc_gone",
                lambda: os.kill(chain(), signal.SIGSTOP),
                self._hold_s,
                lambda: os.kill(chain(), signal.SIGCONT),
            ),
        ]

    def _pid(self, service: str) -> int:
        container = self._deployed.project.run("ps", "-q", service).split()[0]
        said = subprocess.run(
            ["docker", "inspect", "--format", "{{.State.Pid}}", container], capture_output=True, text=True, check=True
        )
        return int(said.stdout)

    def _inside(self, service: str, *command: str) -> str:
        return self._deployed.project.run("exec", "-T", service, *command)

    def _read_only(self, switch: str) -> None:
        for statement in (f"ALTER SYSTEM SET default_transaction_read_only = {switch}", "SELECT pg_reload_conf()"):
            allow = "SET default_transaction_read_only = off"
            self._inside("postgres", "psql", "-U", "tradingflow", "-d", "tradingflow", "-c", allow, "-c", statement)

    def _watermark(self, share: str) -> None:
        self._inside("rabbitmq", "rabbitmqctl", "set_vm_memory_high_watermark", share)

    def _flush_redis(self) -> None:
        settings = self._deployed.settings
        access = ("-p", settings["REDIS_PORT"], "--no-auth-warning", "-a", settings["REDIS_PASSWORD"])
        self._inside("redis", "redis-cli", *access, "FLUSHALL")

    def _fill_log_folder(self) -> None:
        # Unbuffered: a buffer would try once more to write its rest when it is closed.
        with (self._deployed.home / "logs" / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(1 << 16))

    def _empty_log_folder(self) -> None:
        (self._deployed.home / "logs" / "filler").unlink()


def small_log_folder(folder: Path) -> None:
    """A file system of its own for the logs, so that it can be full without harm to the machine."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={LOG_FOLDER_MB}m", "tmpfs", str(folder)], check=True)


def unmount(folder: Path) -> None:
    """The end of `small_log_folder`."""
    subprocess.run(["umount", "--lazy", str(folder)], check=False, capture_output=True)


def _quietly(command: Callable[..., str], *arguments: str) -> None:
    command(*arguments)
