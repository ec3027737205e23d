"""The wall: what a sandboxed process may still do, taken away in order, and then checked from the inside.

Standard library only. It is the program the interpreter pool starts: it walls itself in and becomes the interpreter.
Own user id, no capabilities, empty root directory, no network, no other process, bounded memory, files and time.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tradingflow.py_worker.sandbox import seccomp

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x40000000,
)
PR_SET_PDEATHSIG, PR_GET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 1, 39, 24
CAP_SETGID, CAP_SETUID, LAST_CAPABILITY = 6, 7, 63
CAPABILITY_VERSION_3 = 0x20080522
SYS_CAPGET = {"x86_64": 125, "aarch64": 90}
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
INTERPRETER = "/interpreter"


@dataclass(frozen=True)
class WallPlan:
    """Where the jail is, as whom to run, and how much to allow."""

    jail: str
    user_id: int
    address_space_bytes: int = 1_500_000_000
    open_files: int = 64
    processes: int = 256


def build(plan: WallPlan) -> None:
    """Wall this process in, for good. Raises OSError for the part that cannot be built."""
    os.closerange(3, 65_536)
    _leave_namespaces()
    os.chroot(plan.jail)
    os.chdir("/")
    _limit(plan)
    _drop_capabilities_for_good()
    _become(plan.user_id)
    _clear_capabilities()
    seccomp.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    seccomp.install()


def _leave_namespaces() -> None:
    """A network of its own where the kernel lets us; without it, the seccomp filter alone keeps the network away."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not _may_change_user():
        user, group = os.getuid(), os.getgid()
        if libc.unshare(CLONE_NEWUSER) == 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    libc.unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS)


def _may_change_user() -> bool:
    """Root, or a worker its starter handed the capabilities to on purpose."""
    effective = struct.unpack("6I", _capabilities())[0]
    return all(effective & (1 << capability) for capability in (CAP_SETGID, CAP_SETUID))


def _limit(plan: WallPlan) -> None:
    limits = {
        resource.RLIMIT_AS: plan.address_space_bytes,
        resource.RLIMIT_NOFILE: plan.open_files,
        resource.RLIMIT_NPROC: plan.processes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def _drop_capabilities_for_good() -> None:
    for capability in range(LAST_CAPABILITY + 1):
        try:
            seccomp.prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            continue  # a capability this kernel does not know, or none to drop: the check at the end decides


def _become(user_id: int) -> None:
    """Another user than the worker's, where we may; the check at the end says whether it is."""
    if _may_change_user():
        os.setgroups([])
        os.setresgid(user_id, user_id, user_id)
        os.setresuid(user_id, user_id, user_id)


@dataclass(frozen=True)
class Findings:
    """What the wall holds back, seen from inside. Every field must be true."""

    own_user: bool
    no_capabilities: bool
    no_new_privileges: bool
    empty_root: bool
    no_writing: bool
    no_network: bool
    no_processes: bool
    no_signals: bool
    bounded_memory: bool

    def missing(self) -> list[str]:
        return [name for name, held in asdict(self).items() if not held]


def look_around(worker_user_id: int, worker_pid: int, canary: str, listener_port: int) -> Findings:
    """Try the doors, from inside the wall."""
    return Findings(
        own_user=0 not in os.getresuid() and worker_user_id not in os.getresuid(),
        no_capabilities=_has_no_capabilities(),
        no_new_privileges=seccomp.prctl(PR_GET_NO_NEW_PRIVS) == 1,
        empty_root=_refused(Path(canary).read_bytes) and _refused(Path("/proc/self/status").read_bytes),
        no_writing=_refused(lambda: Path("/written").write_text("x")),
        no_network=_refused(lambda: _connect(listener_port)),
        no_processes=_refused(_fork),
        no_signals=_refused(lambda: os.kill(worker_pid, 0)),
        bounded_memory=resource.getrlimit(resource.RLIMIT_AS)[1] != resource.RLIM_INFINITY,
    )


def _refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return True
    return False


def _connect(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        probe.connect(("127.0.0.1", port))


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _clear_capabilities() -> None:
    header = struct.pack("II", CAPABILITY_VERSION_3, 0)
    if ctypes.CDLL(None, use_errno=True).syscall(SYS_CAPSET[os.uname().machine], header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capset was refused")


def _has_no_capabilities() -> bool:
    return _capabilities() == bytes(24)


def _capabilities() -> bytes:
    """Effective, permitted and inheritable sets, as `capget(2)` gives them. Raises OSError."""
    header = struct.pack("II", CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    if ctypes.CDLL(None, use_errno=True).syscall(SYS_CAPGET[os.uname().machine], header, data) != 0:
        raise OSError(ctypes.get_errno(), "capget was refused")
    return data.raw


def main(plan: WallPlan) -> None:
    """The launcher: `--look USER PID CANARY PORT` reports on the wall, anything else becomes the interpreter."""
    arguments = sys.argv[1:]
    build(plan)
    if arguments[:1] == ["--look"]:
        user, pid, canary, port = arguments[1:]
        print(json.dumps(asdict(look_around(int(user), int(pid), canary, int(port)))), flush=True)  # noqa: T201
        return
    os.execve(INTERPRETER, [INTERPRETER, *arguments], {})  # noqa: S606
