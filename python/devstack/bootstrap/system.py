"""Debian packages: servers without a wheel, and venv support for the machine's Python."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from devstack.bootstrap.steps import Shell, StepFailed

TITLE = "System packages"
SERVER_PACKAGES = {"redis-server": "redis-server", "rabbitmq-server": "rabbitmq-server"}
RABBITMQ_PROGRAMS = (Path("/usr/lib/rabbitmq/bin/rabbitmq-server"), Path("/opt/rabbitmq/sbin/rabbitmq-server"))
POLICY_FILE = Path("/usr/sbin/policy-rc.d")
POLICY = "#!/bin/sh\n# Written by TradingFlow while it installs packages; no service is to start meanwhile.\nexit 101\n"
UNITS = {
    "redis-server": ["redis-server"],
    "rabbitmq-server": ["rabbitmq-server", "epmd.socket"],
    "haproxy": ["haproxy"],
    "prometheus": ["prometheus"],
    "prometheus-alertmanager": ["prometheus-alertmanager"],
}
# What only tests start: packages, and the names their programs go by.
TEST_PROGRAMS = {
    "haproxy": ("haproxy",),
    "prometheus": ("promtool",),
    "prometheus-alertmanager": ("prometheus-alertmanager", "alertmanager"),
}


def missing_servers() -> list[str]:
    """Packages of the native servers that are not on this machine."""
    has_rabbitmq = any(program.exists() for program in RABBITMQ_PROGRAMS) or shutil.which("rabbitmq-server")
    present = {"redis-server": bool(shutil.which("redis-server")), "rabbitmq-server": bool(has_rabbitmq)}
    return [package for package, found in present.items() if not found]


def missing_test_programs() -> list[str]:
    """Packages of what only tests start, and no service needs beside it."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    return [
        package
        for package, programs in TEST_PROGRAMS.items()
        if not any(shutil.which(program, path=path) for program in programs)
    ]


def missing_venv_support() -> list[str]:
    """The package that lets this Python make virtual environments, when that part is split off (Debian)."""
    if find_spec("ensurepip") is not None:
        return []
    return [f"python3.{sys.version_info.minor}-venv"]


def install(packages: list[str], shell: Shell) -> None:
    """apt-get install without starting any service; raises StepFailed with the command to give to an administrator."""
    by_hand = f"apt-get update && apt-get install -y {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise StepFailed(f"missing: {', '.join(packages)}\n  what to do: install them with this system's own tool")
    if os.geteuid() != 0:
        raise StepFailed(
            f"missing: {', '.join(packages)}, and only root may install them\n"
            f"  what to do: sudo sh -c '{by_hand}'  (or use SERVICES=docker, SERVICES=env)"
        )
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3"]
    shell.run("apt-get", *options, "update", env=environment, advice=by_hand)
    with _no_service_starts():
        shell.run(
            *["apt-get", *options, "install", "-y", "--no-install-recommends", *packages],
            env=environment,
            advice=by_hand,
        )
        _keep_off_at_boot(packages, shell)


def _keep_off_at_boot(packages: list[str], shell: Shell) -> None:
    """The servers just installed are only started by us, on private ports."""
    if shutil.which("systemctl"):
        for unit in [unit for package in packages for unit in UNITS.get(package, [])]:
            shell.succeeds("systemctl", "disable", unit)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's own switch against services started by an installation; one that exists already is left alone."""
    if POLICY_FILE.exists() and POLICY_FILE.read_text(errors="replace") != POLICY:
        yield
        return
    POLICY_FILE.write_text(POLICY)
    POLICY_FILE.chmod(0o755)
    try:
        yield
    finally:
        POLICY_FILE.unlink(missing_ok=True)
