"""deploy.sh against a stand-in for the engine that remembers what it was told and plays a server's containers."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.deployment.deployment_files import DATA_FILE, REPOSITORY, SERVICES_FILE
from tests.waiting import eventually

SCRIPT = REPOSITORY / "python/scripts/deploy.sh"

RELEASE_FILES = (DATA_FILE, SERVICES_FILE, "deploy.sh")

# Containers are files: name = id, content = service and tag. A tag that starts with "sick" never becomes healthy.
ENGINE = r"""#!/usr/bin/env bash
set -euo pipefail
echo "$*" >>calls
for name in ACCOUNT_SERVICES_TAG WORKER_TAG GATEWAY_TAG; do # as compose does
  [[ -v $name ]] || printf -v "$name" '%s' "$(sed -n "s/^$name=//p" .env)"
done
new() { local n; n=$(($(cat count 2>/dev/null || echo 0) + 1)); echo $n >count; echo "$1 $2" >containers/c$n; }
tag_of() {
  case $1 in
    py-worker | worker-migrate) echo "$WORKER_TAG" ;;
    gateway) echo "$GATEWAY_TAG" ;;
    *) echo "$ACCOUNT_SERVICES_TAG" ;;
  esac
}
repository_of() {
  case $1 in
    py-worker) echo registry:5000/worker ;;
    gateway) echo registry:5000/gateway ;;
    *) echo registry:5000/account-services ;;
  esac
}
in_use() { cat containers/* | while read -r service tag _; do echo "$(repository_of "$service"):$tag"; done; }
of() { grep -lE "^$1 " containers/* 2>/dev/null | xargs -rn1 basename | sort -V || true; }
case $1 in
  compose)
    shift
    [[ $1 == version ]] && exit
    [[ -d python ]] || { echo "build path $PWD/python does not exist" >&2; exit 1; } # as docker-compose 1.29
    shift 2 ;;
  inspect)
    for id in "${@:4}"; do
      read -r service tag _ <"containers/$id" || true
      case $3 in
        *Image*) echo "$(repository_of "$service"):$tag" ;;
        *) [[ $tag == sick* ]] && echo unhealthy || echo healthy ;;
      esac
    done
    exit ;;
  stop) exit ;;
  image)
    if [[ $2 == ls ]]; then
      sed -n "s|^${*: -1}:||p" images
    else
      for image in "${@:3}"; do
        if in_use | grep -qxF "$image"; then
          echo "conflict: unable to remove $image" >&2
          failed=1
        else
          sed -i "\\|^$image\$|d" images
        fi
      done
    fi
    exit "${failed:-0}" ;;
  rm) shift; for id; do rm "containers/$id"; done; exit ;;
esac
for ((i = 0; ; i++)); do # a closed gate holds whoever comes, and turns them away after half a minute
  [[ -e gate && ! -e gate/open ]] || break
  ((i < 600)) || exit 1
  touch gate/reached
  sleep 0.05
done
service=${*: -1}
case $1 in
  rm) for id in $(of "$service"); do ! grep -q ' exited$' "containers/$id" || rm "containers/$id"; done ;;
  ps) of "$service" ;;
  pull)
    [[ $(tag_of "$service") != absent* ]] || exit 1
    image=$(repository_of "$service"):$(tag_of "$service")
    grep -qsxF "$image" images || echo "$image" >>images ;;
  run) echo "$service $(tag_of "$service")" >>migrated; [[ $(tag_of "$service") != unmigratable* ]] ;;
  up)
    echo "Creating $service" >&2
    echo "$service $(tag_of "$service") $(cat docker-compose-account-and-worker.yml)" >>started
    wanted=$(sed -E 's/.*--scale [a-z-]+=([0-9]+).*/\1/' <<<"$*")
    [[ $* == *--no-recreate* ]] || for id in $(of "$service"); do rm "containers/$id"; done
    while (($(of "$service" | wc -l) < wanted)); do new "$service" "$(tag_of "$service")"; done ;;
esac
"""


class Server:
    """The folder on the server, with compose files, `.env` and the stand-in engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "containers").mkdir()
        (folder / SERVICES_FILE).touch()
        (folder / ".env").write_text("SECRET=s\nWORKER_TAG=local\nOTHER=o")
        (folder / ".env").chmod(0o640)
        (folder / "bin").mkdir()
        engine = folder / "bin/docker"
        engine.write_text(ENGINE)
        engine.chmod(0o755)

    def deploy(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        started = self.start(*arguments, **settings)
        said, complained = started.communicate()
        return subprocess.CompletedProcess(started.args, started.returncode, said, complained)

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HEALTH_TIMEOUT_S": "0",
            "GATEWAY_SETTLE_S": "0",
        }
        return subprocess.Popen(
            ["bash", str(SCRIPT), *arguments],
            cwd=self.folder,
            env=environment | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def incoming(self, tag: str) -> str:
        """The compose files and deploy.sh of that release as they come to the server: the folder's name."""
        incoming = self.folder / f"incoming.{tag}"
        incoming.mkdir()
        for name in RELEASE_FILES:
            (incoming / name).write_text(tag)
        return incoming.name

    def release(self, group: str, tag: str) -> subprocess.CompletedProcess[str]:
        """A tag with the files of its release, as deploy_over_ssh.sh deploys it."""
        return self.deploy(group, tag, self.incoming(tag))

    def files(self) -> list[str]:
        """The release that each of the files in use is of."""
        return [(self.folder / name).read_text() for name in RELEASE_FILES]

    def containers(self) -> dict[str, list[str]]:
        """The tags of the running containers of each service."""
        found: dict[str, list[str]] = {}
        for file in sorted((self.folder / "containers").iterdir()):
            service, tag = file.read_text().split()
            found.setdefault(service, []).append(tag)
        return found

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def images(self) -> list[str]:
        return (self.folder / "images").read_text().split()

    def migrated(self) -> list[str]:
        """Each one-shot that was run, with the tag of its image."""
        file = self.folder / "migrated"
        return file.read_text().splitlines() if file.exists() else []

    def settings(self) -> dict[str, str]:
        return dict(line.split("=") for line in (self.folder / ".env").read_text().splitlines())

    def tag(self, group: str) -> str:
        variable = {"account-services": "ACCOUNT_SERVICES_TAG", "worker": "WORKER_TAG", "gateway": "GATEWAY_TAG"}
        return self.settings()[variable[group]]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_a_first_deployment_starts_every_service_of_its_group(server: Server) -> None:
    done = server.deploy("account-services", "v1")
    assert done.returncode == 0, done.stderr
    assert server.containers() == {
        name: ["v1"] for name in ("account-manager", "celery-beat", "celery-worker", "monitor")
    }
    assert server.tag("account-services") == "v1"


@pytest.mark.parametrize(
    ("group", "migration"), [("account-services", "migrate"), ("worker", "worker-migrate"), ("gateway", None)]
)
def test_the_tables_are_brought_up_to_date_from_the_new_image_before_any_service_is_replaced(
    server: Server, group: str, migration: str | None
) -> None:
    server.deploy(group, "v1")
    server.deploy(group, "v2")
    assert server.migrated() == ([f"{migration} v1", f"{migration} v2"] if migration else [])
    calls = [call.split()[3] for call in server.calls() if " run --rm " in call or " up -d " in call]
    assert calls[0] == ("run" if migration else "up")
    assert calls.count("run") == len(server.migrated())


@pytest.mark.parametrize(
    ("group", "service"),
    [("account-services", "account-manager"), ("account-services", "celery-worker"), ("worker", "py-worker")],
)
def test_a_service_with_requests_or_tasks_gets_its_new_containers_before_the_old_ones_end(
    server: Server, group: str, service: str
) -> None:
    server.deploy(group, "v1")
    server.deploy(group, "v2")
    assert server.containers()[service] == ["v2"]
    calls = server.calls()
    added = next(i for i, call in enumerate(calls) if f"--scale {service}=2 --no-recreate" in call)
    assert any(call.startswith("stop ") for call in calls[added:])


def test_the_number_of_workers_stays_what_it_was(server: Server) -> None:
    server.deploy("worker", "v1")
    (server.folder / "containers/extra").write_text("py-worker v1")
    done = server.deploy("worker", "v2")
    assert done.returncode == 0, done.stderr
    assert server.containers()["py-worker"] == ["v2", "v2"]


@pytest.mark.parametrize("group", ["account-services", "worker", "gateway"])
def test_a_tag_that_has_become_sick_is_replaced(server: Server, group: str) -> None:
    server.deploy(group, "v1")
    for container in (server.folder / "containers").iterdir():
        container.write_text(container.read_text().replace("v1", "sick-by-now"))
    done = server.deploy(group, "v2")
    assert done.returncode == 0, done.stdout
    assert {tag for tags in server.containers().values() for tag in tags} == {"v2"}


@pytest.mark.parametrize("group", ["account-services", "worker", "gateway"])
def test_a_sick_tag_is_rolled_back(server: Server, group: str) -> None:
    server.deploy(group, "v1")
    before = server.containers()
    done = server.deploy(group, "sick")
    assert done.returncode == 1
    assert "going back to v1" in done.stdout
    assert "was put back on v1" in done.stderr
    assert server.containers() == before
    assert server.tag(group) == "v1"


def test_going_back_leaves_alone_what_never_changed(server: Server) -> None:
    """The old workers ran on beside the sick ones: starting more of them could only fail for another reason."""
    server.deploy("worker", "v1")
    server.deploy("worker", "sick")
    started = [call for call in server.calls() if " up -d" in call]
    assert len(started) == 2


def test_a_sick_first_deployment_says_that_there_is_no_way_back(server: Server) -> None:
    done = server.deploy("worker", "sick")
    assert done.returncode == 1
    assert "no earlier tag" in done.stderr
    assert server.tag("worker") == "local"


def test_a_sick_release_after_an_installation_by_hand_goes_back_to_what_ran(server: Server) -> None:
    (server.folder / "containers/c0").write_text("py-worker local")
    done = server.deploy("worker", "sick")
    assert "was put back on local" in done.stderr
    assert server.containers()["py-worker"] == ["local"]


def test_the_tag_is_where_compose_finds_it_and_nothing_else_in_that_file_changes(server: Server) -> None:
    server.deploy("worker", "v1")
    server.deploy("worker", "v2")
    assert server.settings() == {"SECRET": "s", "OTHER": "o", "WORKER_TAG": "v2"}
    assert (server.folder / ".env").stat().st_mode & 0o777 == 0o640


def test_a_link_to_the_settings_stays_a_link(server: Server) -> None:
    (server.folder / "elsewhere").mkdir()
    (server.folder / ".env").rename(server.folder / "elsewhere/.env")
    (server.folder / ".env").symlink_to("elsewhere/.env")
    server.deploy("worker", "v1")
    assert (server.folder / ".env").is_symlink()
    assert server.tag("worker") == "v1"


def test_a_tag_that_cannot_be_pulled_changes_nothing(server: Server) -> None:
    server.deploy("worker", "v1")
    done = server.deploy("worker", "absent")
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert server.containers()["py-worker"] == ["v1"]


@pytest.mark.parametrize(("group", "service"), [("account-services", "account-manager"), ("worker", "py-worker")])
def test_a_failed_migration_leaves_the_services_alone(server: Server, group: str, service: str) -> None:
    server.deploy(group, "v1")
    done = server.deploy(group, "unmigratable")
    assert done.returncode == 1
    assert "the services were not touched" in done.stderr
    assert server.containers()[service] == ["v1"]
    assert server.tag(group) == "v1"


def test_deploying_one_group_keeps_the_tag_of_the_other(server: Server) -> None:
    server.deploy("account-services", "v1")
    server.deploy("worker", "v7")
    assert server.deploy("account-services", "v2").returncode == 0
    assert server.containers()["py-worker"] == ["v7"]
    assert server.tag("worker") == "v7"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage"),
        (("everything", "v1"), "allowed: account-services, worker, gateway"),
        (("worker", "v1; rm -rf /"), "is not an image tag"),
    ],
)
def test_wrong_arguments_are_refused_before_the_engine_is_asked(
    server: Server, arguments: tuple[str, ...], said: str
) -> None:
    done = server.deploy(*arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (server.folder / "calls").exists()


def test_two_deployments_at_once_take_turns(server: Server) -> None:
    gate = server.folder / "gate"
    gate.mkdir()
    with server.start("account-services", "v1") as first:
        assert eventually((gate / "reached").exists)
        hasty = server.deploy("worker", "v7", TURN_TIMEOUT_S="0")
        with server.start("worker", "v8") as second:
            (gate / "open").touch()
            assert (first.wait(), second.wait()) == (0, 0)
    assert hasty.returncode == 1
    assert "nothing was changed" in hasty.stderr
    assert server.containers()["py-worker"] == ["v8"]
    assert (server.tag("account-services"), server.tag("worker")) == ("v1", "v8")


def test_what_an_interrupted_deployment_stopped_does_not_pass_for_new(server: Server) -> None:
    server.deploy("worker", "v1")
    (server.folder / "containers/c99").write_text("py-worker v0 exited")
    assert server.deploy("worker", "v2").returncode == 0
    assert server.containers()["py-worker"] == ["v2"]


def test_what_an_interrupted_deployment_added_is_no_wish_for_more(server: Server) -> None:
    server.deploy("worker", "v1")
    (server.folder / "containers/c98").write_text("py-worker v2")
    for tag in ("v2", "v3"):
        assert server.deploy("worker", tag).returncode == 0
        assert server.containers()["py-worker"] == [tag]


def test_a_deployment_whose_connection_is_lost_goes_on_to_its_end(server: Server) -> None:
    server.deploy("worker", "v1")
    gate = server.folder / "gate"
    gate.mkdir()
    with server.start("worker", "v2") as cut_off:
        assert eventually((gate / "reached").exists)
        assert cut_off.stdout is not None
        assert cut_off.stderr is not None
        cut_off.stdout.close()
        cut_off.stderr.close()
        (gate / "open").touch()
        assert cut_off.wait() == 0
    assert server.containers()["py-worker"] == ["v2"]
    assert server.tag("worker") == "v2"
    assert "worker is on v2" in (server.folder / "deploy.log").read_text()


def test_the_files_of_a_release_come_with_it(server: Server) -> None:
    for tag in ("v1", "v2"):
        done = server.release("worker", tag)
        assert done.returncode == 0, done.stderr
        assert server.files() == [tag] * 3
    assert not list(server.folder.glob("*.previous"))


@pytest.mark.parametrize("tag", ["sick", "absent", "unmigratable"])
def test_a_release_that_fails_leaves_the_files_of_the_one_before(server: Server, tag: str) -> None:
    server.release("worker", "v1")
    assert server.release("worker", tag).returncode == 1
    assert server.files() == ["v1"] * 3
    assert not list(server.folder.glob("*.previous"))


def test_the_way_back_is_under_the_files_of_the_release_before(server: Server) -> None:
    server.release("gateway", "v1")
    server.release("gateway", "sick")
    started = (server.folder / "started").read_text().splitlines()
    assert started == ["gateway v1 v1", "gateway sick sick", "gateway v1 v1"]


def test_a_deployment_that_waits_for_its_turn_leaves_the_files_alone(server: Server) -> None:
    server.release("worker", "v1")
    gate = server.folder / "gate"
    gate.mkdir()
    with server.start("gateway", "v2", server.incoming("v2")) as first:
        assert eventually((gate / "reached").exists)
        with server.start("worker", "v3", server.incoming("v3")) as second:
            assert second.stdout is not None
            assert "waiting for another deployment" in second.stdout.readline()
            assert server.files() == ["v2"] * 3
            (gate / "open").touch()
            assert (first.wait(), second.wait()) == (0, 0)
    assert server.files() == ["v3"] * 3


def test_the_files_that_an_interrupted_deployment_kept_are_those_in_use(server: Server) -> None:
    server.release("worker", "v1")
    for name in RELEASE_FILES:
        (server.folder / name).rename(server.folder / f"{name}.previous")
        (server.folder / name).write_text("v2")
    assert server.release("worker", "sick").returncode == 1
    assert server.files() == ["v1"] * 3


def test_by_hand_the_files_stay_as_they_are(server: Server) -> None:
    server.release("worker", "v1")
    for tag in ("v2", "sick"):
        server.deploy("worker", tag)
        assert server.files() == ["v1"] * 3


@pytest.mark.parametrize("group", ["account-services", "worker", "gateway"])
def test_the_new_image_and_the_one_before_are_kept_and_no_others(server: Server, group: str) -> None:
    (server.folder / "images").write_text("registry:5000/other:v1\n")
    for tag in ("v1", "v2", "sick", "v3"):
        server.deploy(group, tag)
    kept = [f"registry:5000/{group}:{tag}" for tag in ("v2", "v3")]
    assert server.images() == ["registry:5000/other:v1", *kept]


def test_the_same_tag_again_costs_no_image(server: Server) -> None:
    for tag in ("v1", "v2", "v2"):
        server.deploy("worker", tag)
    assert server.images() == ["registry:5000/worker:v1", "registry:5000/worker:v2"]


def test_images_that_were_not_pulled_are_kept(server: Server) -> None:
    server.deploy("worker", "v1")
    for tag in ("v2", "v3"):
        server.deploy("worker", tag, SKIP_PULL="1")
    assert server.images() == ["registry:5000/worker:v1"]


def test_an_image_that_cannot_be_removed_is_said_and_fails_nothing(server: Server) -> None:
    (server.folder / "images").write_text("registry:5000/account-services:v0\n")
    (server.folder / "containers/tools").write_text("tools v0\n")
    server.deploy("account-services", "v1")
    done = server.deploy("account-services", "v2")
    assert done.returncode == 0
    assert "not every image of an earlier release could be removed" in done.stdout
    assert [image.split(":")[-1] for image in server.images()] == ["v0", "v1", "v2"]


def test_a_missing_env_file_is_named(server: Server) -> None:
    (server.folder / ".env").unlink()
    done = server.deploy("worker", "v1")
    assert done.returncode == 1
    assert "no .env" in done.stderr
