"""deploy_over_ssh.sh against stand-ins for ssh and scp that write down what they were given.

With SERVER=here they do it, too, on this machine.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.deployment.deployment_files import DATA_FILE, REPOSITORY, SERVICES_FILE

SCRIPT = REPOSITORY / "python/scripts/deploy_over_ssh.sh"
CLIENT = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$CALLS"
for argument; do
  [[ -d $argument ]] && ls "$argument" >"$CALLS.copied"
  [[ $argument == */key ]] && { cat "$argument"; stat -c %a "$argument"; } >>"$CALLS.key"
done
target=${*: -1}
case ${SERVER:-}$(basename "$0") in
  herescp) exec cp -r "${@: -2:1}" "${target#*:}" ;;
  heressh) exec bash -c "$target" ;;
esac
[[ $(basename "$0") != ssh ]] || exit "${REMOTE_STATUS:-0}"
"""
SETTINGS = {
    "DEPLOY_TARGET": "deployer@stg.example:2222",
    "DEPLOY_FOLDER": "/srv/tradingflow",
    "DEPLOY_SSH_KEY": "canary-private-key",
    "DEPLOY_KNOWN_HOSTS": "stg.example ssh-ed25519 AAAA",
}


def deploy(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    for name in ("ssh", "scp"):
        client = folder / "bin" / name
        client.parent.mkdir(exist_ok=True)
        client.write_text(CLIENT)
        client.chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    environment = {"PATH": path, "CALLS": str(folder / "calls"), **SETTINGS, **settings}
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_the_files_are_copied_and_the_script_is_run_on_the_server(tmp_path: Path) -> None:
    done = deploy(tmp_path, "worker", "abc123")
    assert done.returncode == 0, done.stderr
    copied, ran = (tmp_path / "calls").read_text().split("\nssh ")
    assert "-P 2222" in copied
    assert copied.endswith(" deployer@stg.example:/srv/tradingflow/")
    assert set((tmp_path / "calls.copied").read_text().split()) == {DATA_FILE, SERVICES_FILE, "deploy.sh"}
    incoming = Path(copied.split()[-2]).name
    assert "deployer@stg.example cd '/srv/tradingflow' || exit" in ran
    assert f"bash '{incoming}/deploy.sh' 'worker' 'abc123' '{incoming}'" in ran


def test_what_is_copied_lies_beside_the_files_in_use_and_is_cleared_away(tmp_path: Path) -> None:
    server = tmp_path / "server"
    server.mkdir()
    (server / "deploy.sh").write_text("in use")
    done = deploy(tmp_path, "worker", "abc123", DEPLOY_FOLDER=str(server), SERVER="here")
    assert done.returncode == 1
    assert f"no .env in {server}" in done.stderr
    assert [file.name for file in server.iterdir()] == ["deploy.sh"]
    assert (server / "deploy.sh").read_text() == "in use"


def test_only_the_known_host_is_trusted_and_the_key_is_nowhere_to_be_seen(tmp_path: Path) -> None:
    done = deploy(tmp_path, "worker", "abc123")
    calls = (tmp_path / "calls").read_text()
    assert calls.count("StrictHostKeyChecking=yes") == 2
    assert calls.count("BatchMode=yes") == 2
    assert "canary-private-key" not in calls + done.stdout + done.stderr
    assert (tmp_path / "calls.key").read_text().split() == ["canary-private-key", "600"] * 2
    key = next(part for part in calls.split() if part.endswith("/key"))
    assert not Path(key).exists(), "the key must not outlive the deployment"


def test_a_deployment_that_failed_on_the_server_fails_here(tmp_path: Path) -> None:
    assert deploy(tmp_path, "worker", "abc123", REMOTE_STATUS="1").returncode == 1


@pytest.mark.parametrize("missing", SETTINGS)
def test_a_missing_secret_is_named(tmp_path: Path, missing: str) -> None:
    done = deploy(tmp_path, "worker", "abc123", **{missing: ""})
    assert done.returncode == 1
    assert f"{missing} is not set" in done.stderr
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (("worker", "x'; reboot; '"), {}),
        (("worker", "abc123"), {"DEPLOY_FOLDER": "/srv/'; reboot; '"}),
    ],
)
def test_nothing_of_ours_reaches_the_remote_shell_unchecked(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str]
) -> None:
    assert deploy(tmp_path, *arguments, **settings).returncode == 1
    assert not (tmp_path / "calls").exists()
