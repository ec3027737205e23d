"""The installer: what is missing is known by lock files, steps run side by side, failures say what to do."""

import os
import threading
from pathlib import Path

import pytest

from devstack.bootstrap import system
from devstack.bootstrap.plan import main
from devstack.bootstrap.python_env import pinned_block
from devstack.bootstrap.stamp import Stamp
from devstack.bootstrap.steps import Shell, Step, StepFailed, run_steps

REQUIREMENTS = """\
typer==1.0 \\
    --hash=sha256:aa
uv==0.13.8 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
    # via tradingflow
uvicorn==1.0 \\
    --hash=sha256:dd
"""


def test_the_installer_is_cut_out_with_all_its_hashes() -> None:
    assert pinned_block(REQUIREMENTS, "uv") == "uv==0.13.8 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"


def test_a_changed_lock_file_or_a_removed_folder_asks_for_an_installation(tmp_path: Path) -> None:
    lock, folder = tmp_path / "lock", tmp_path / "installed"
    lock.write_text("one")
    folder.mkdir()
    Stamp.of(folder, [lock], "3.11").set()
    assert Stamp.of(folder, [lock], "3.11").is_set
    assert not Stamp.of(folder, [lock], "3.12").is_set
    lock.write_text("two")
    assert not Stamp.of(folder, [lock], "3.11").is_set
    assert not Stamp.of(tmp_path / "nowhere", [lock], "3.11").is_set


def test_a_step_waits_for_the_one_it_needs_and_for_no_other(tmp_path: Path) -> None:
    order: list[str] = []
    slow_may_end = threading.Event()

    def slow(shell: Shell) -> None:
        assert slow_may_end.wait(20)
        order.append("slow")

    def needed(shell: Shell) -> None:
        order.append("needed")

    def last(shell: Shell) -> None:
        order.append("last")
        slow_may_end.set()

    steps = [Step("slow", slow), Step("last", last, after=("needed",)), Step("needed", needed)]
    assert run_steps(steps, tmp_path)
    assert order == ["needed", "last", "slow"]


def test_a_failed_step_quotes_its_log_and_starts_nothing_that_needs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(shell: Shell) -> None:
        shell.run("sh", "-c", "echo it is broken; exit 1", advice="mend it")

    def never(shell: Shell) -> None:
        raise AssertionError

    assert not run_steps([Step("first", breaks), Step("second", never, after=("first",))], tmp_path)
    told = capsys.readouterr().err
    assert "| it is broken" in told
    assert "what to do: mend it" in told
    assert "second" not in told


def test_a_missing_network_is_called_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="check the network connection"):
        Shell(tmp_path / "log").run("sh", "-c", "echo Could not resolve host; exit 1", advice="another advice")


def test_without_root_the_command_for_an_administrator_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StepFailed, match="sudo sh -c 'apt-get update && apt-get install -y redis-server'"):
        system.install(["redis-server"], Shell(tmp_path / "log"))


def test_no_service_may_start_while_packages_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(system, "POLICY_FILE", policy)
    with system._no_service_starts():
        assert os.access(policy, os.X_OK)
        assert "exit 101" in policy.read_text()
    assert not policy.exists()


def test_a_policy_somebody_else_made_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    monkeypatch.setattr(system, "POLICY_FILE", policy)
    with system._no_service_starts():
        assert policy.read_text() == "#!/bin/sh\nexit 0\n"
    assert policy.exists()


def test_an_unknown_purpose_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fly"]) == 2
    assert "run|test|check" in capsys.readouterr().err
