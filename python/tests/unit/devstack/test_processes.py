"""Processes are known by pid and start time, stopped gracefully, killed when they will not, and brought back."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from devstack.daemon import RECORD_FILE, Daemon, ProcessRecord
from devstack.errors import ServerFailed
from devstack.leftovers import remove_leftovers, write_owner
from devstack.proc import ProcessIdentity
from devstack.readiness import wait_until_ready
from devstack.service import ServiceProcess
from devstack.supervisor import Supervisor
from tests.waiting import eventually

FOREVER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours to touch."""
    with subprocess.Popen(FOREVER, stdout=subprocess.DEVNULL) as process:
        yield process
        process.kill()


def started(folder: Path, command: list[str] = FOREVER) -> Daemon:
    daemon = Daemon("sleeper", folder)
    daemon.spawn(command)
    wait_until_ready(daemon, lambda: "up" in daemon.log_tail(), timeout_s=20, advice="")
    return daemon


def test_a_process_that_obeys_is_stopped_gracefully(tmp_path: Path) -> None:
    daemon = started(tmp_path)
    assert daemon.stop()
    assert not daemon.is_alive
    assert not (tmp_path / RECORD_FILE).exists()


def test_a_process_that_ignores_the_signal_is_killed_and_that_is_told(tmp_path: Path) -> None:
    daemon = started(tmp_path, DEAF)
    assert not daemon.stop(timeout_s=0.2)
    assert not daemon.is_alive


def test_another_program_finds_the_process_again_by_its_record(tmp_path: Path) -> None:
    daemon = started(tmp_path)
    again = Daemon("sleeper", tmp_path)
    assert again.pid == daemon.pid
    assert again.stop()
    assert not daemon.is_alive


def test_a_record_whose_pid_was_handed_to_another_process_is_stale(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    identity = ProcessIdentity.of(bystander.pid)
    assert identity is not None
    ProcessRecord(
        "sleeper", identity.pid, identity.start_ticks - 1, identity.boot_id, time.time(), int(signal.SIGTERM)
    ).write(tmp_path)
    daemon = Daemon("sleeper", tmp_path)
    assert not daemon.is_alive
    daemon.stop()
    daemon.kill()
    assert bystander.poll() is None


def test_a_record_of_an_earlier_boot_is_stale(tmp_path: Path, bystander: subprocess.Popen[bytes]) -> None:
    identity = ProcessIdentity.of(bystander.pid)
    assert identity is not None
    assert not replace(identity, boot_id="another").send(signal.SIGKILL)
    assert bystander.poll() is None


def test_a_kill_takes_the_grandchildren_with_it(tmp_path: Path) -> None:
    parent = "import subprocess, sys, time; c = subprocess.Popen(['sleep', '600'], start_new_session=True);"
    daemon = started(tmp_path, [sys.executable, "-c", f"{parent} print('up', c.pid, flush=True); time.sleep(600)"])
    grandchild = ProcessIdentity.of(int(daemon.log_tail().split()[-1]))
    assert grandchild is not None
    daemon.kill()
    assert eventually(lambda: not grandchild.alive)


def test_a_process_whose_main_thread_ended_first_still_lives(tmp_path: Path) -> None:
    program = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print("up", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""
    daemon = started(tmp_path, [sys.executable, "-c", program])
    pid = daemon.pid
    assert pid is not None
    assert eventually(lambda: "(zombie)" in Path(f"/proc/{pid}/status").read_text())
    assert daemon.is_alive
    daemon.kill()
    assert not daemon.is_alive


def test_a_process_that_ends_while_starting_is_reported_with_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('the disk is full')"]
    service = ServiceProcess(
        "broken", command, directory=tmp_path, cwd=tmp_path, env={}, ready=lambda: False, ready_timeout_s=20
    )
    with pytest.raises(ServerFailed, match=r"broken ended while starting \(exit code 1\)[\s\S]*the disk is full"):
        service.start()


def test_a_process_that_is_never_ready_is_killed_and_reported(tmp_path: Path) -> None:
    service = ServiceProcess(
        "slow", FOREVER, directory=tmp_path, cwd=tmp_path, env={}, ready=lambda: False, ready_timeout_s=0.2
    )
    with pytest.raises(ServerFailed, match="was not ready within"):
        service.start()
    assert not service.is_alive


def test_a_killed_process_is_started_again_and_that_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    service = ServiceProcess("sleeper", FOREVER, directory=tmp_path, cwd=tmp_path, env={})
    supervisor = Supervisor(said.append)
    supervisor.start(service)
    try:
        first = service.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: service.pid not in {None, first})
        assert any("killed by signal 9; starting it again" in line for line in said)
    finally:
        assert supervisor.stop() == []
    assert not service.is_alive


def test_a_stopped_supervisor_starts_nothing_again(tmp_path: Path) -> None:
    said: list[str] = []
    service = ServiceProcess("sleeper", FOREVER, directory=tmp_path, cwd=tmp_path, env={})
    supervisor = Supervisor(said.append)
    supervisor.start(service)
    supervisor.stop()
    assert not any(thread.name == "watch-sleeper" for thread in threading.enumerate())
    assert not any("again" in line for line in said)


def test_what_is_still_starting_is_stopped_too(tmp_path: Path) -> None:
    service = ServiceProcess("slow", FOREVER, directory=tmp_path, cwd=tmp_path, env={}, ready=lambda: False)
    supervisor = Supervisor(lambda line: None)
    with ThreadPoolExecutor(max_workers=1) as background:
        starting = background.submit(supervisor.start, service)
        assert eventually(lambda: service.is_alive)
        supervisor.stop()
        assert not service.is_alive
        with pytest.raises(ServerFailed, match="ended while starting"):
            starting.result()


def test_what_a_killed_run_left_is_stopped_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    daemon = started(folder / "server")
    (folder / "owner.json").write_text('{"pid": 1, "start_ticks": 1, "boot_id": "another"}')
    remove_leftovers(tmp_path, "run-")
    assert not daemon.is_alive
    assert not folder.exists()


def test_the_servers_of_a_run_that_still_goes_on_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    daemon = started(folder / "server")
    write_owner(folder)
    remove_leftovers(tmp_path, "run-")
    assert daemon.is_alive
    daemon.stop()


def test_the_record_holds_no_more_than_what_may_be_shown(tmp_path: Path) -> None:
    daemon = started(tmp_path)
    record = ProcessRecord.read(tmp_path)
    daemon.stop()
    assert record is not None
    assert set(asdict(record)) == {
        "name", "pid", "start_ticks", "boot_id", "started_at", "stop_signal", "port", "url", "ready_url",
    }  # fmt: skip
