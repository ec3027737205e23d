"""The compose files: secrets only where they are used, nothing that docker-compose 1.29 would not take."""

import os
import re
import subprocess
from typing import Any

import pytest

from tests.unit.deployment.deployment_files import DATA_FILE, REPOSITORY, SERVICES_FILE, compose_file
from tradingflow.core.config import (
    AccountManagerSettings,
    BeatSettings,
    ExecutorSettings,
    MonitorSettings,
    PlatformSettings,
    WorkerSettings,
)

SETTINGS_OF: dict[str, type[PlatformSettings]] = {
    "migrate": PlatformSettings,
    "worker-migrate": PlatformSettings,
    "account-manager": AccountManagerSettings,
    "celery-worker": ExecutorSettings,
    "celery-beat": BeatSettings,
    "monitor": MonitorSettings,
    "py-worker": WorkerSettings,
}
# Decided by the compose file: one host for the three, and a worker's own name differs from replica to replica.
NOT_HANDED_ON = {"data_server_host", "worker_id"}
NOT_A_SETTING = {"FORWARDED_ALLOW_IPS"}
ONE_SHOTS = {"secrets-check", "log-folder", "migrate", "worker-migrate", "tools"}


def services(name: str) -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = compose_file(name)["services"]
    return loaded


ALL_SERVICES = [(file, name) for file in (DATA_FILE, SERVICES_FILE) for name in services(file)]


@pytest.mark.parametrize("name", SETTINGS_OF)
def test_a_container_gets_exactly_the_settings_of_its_process(name: str) -> None:
    given = set(services(SERVICES_FILE)[name]["environment"]) - NOT_A_SETTING
    assert given == {field.upper() for field in SETTINGS_OF[name].model_fields} - {n.upper() for n in NOT_HANDED_ON}


def test_the_doctor_sees_every_setting() -> None:
    seen = set(services(SERVICES_FILE)["tools"]["environment"])
    for name in SETTINGS_OF:
        assert set(services(SERVICES_FILE)[name]["environment"]) <= seen


def test_only_the_celery_worker_is_given_the_operator_key() -> None:
    holders = {
        name for _, name in ALL_SERVICES if "OPERATOR_PRIVATE_KEY" in str(services(_).get(name, {}).get("environment"))
    }
    assert holders == {"celery-worker", "tools"}
    assert services(SERVICES_FILE)["tools"]["profiles"] == ["tools"], "it must never be started by `up`"


@pytest.mark.parametrize(("file", "name"), ALL_SERVICES)
def test_logs_are_rotated(file: str, name: str) -> None:
    assert services(file)[name]["logging"]["options"] == {"max-size": "10m", "max-file": "5"}


@pytest.mark.parametrize(("file", "name"), [(f, n) for f, n in ALL_SERVICES if n not in ONE_SHOTS])
def test_a_service_is_checked_limited_restarted_and_given_time_to_end(file: str, name: str) -> None:
    service = services(file)[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"]
    assert service["mem_limit"]
    assert service["stop_grace_period"]


@pytest.mark.parametrize("name", sorted(ONE_SHOTS & services(SERVICES_FILE).keys()))
def test_a_one_shot_is_not_asked_for_the_health_of_a_service(name: str) -> None:
    assert services(SERVICES_FILE)[name]["healthcheck"] == {"disable": True}


@pytest.mark.parametrize("name", list(services(SERVICES_FILE)))
def test_our_containers_have_a_read_only_root_and_no_capability_but_those_named_here(name: str) -> None:
    service = services(SERVICES_FILE)[name]
    needed = {
        "log-folder": {"CHOWN", "FOWNER"},
        "py-worker": {"SETUID", "SETGID", "SYS_CHROOT", "KILL"},
        "tools": set[str](),
    }
    assert set(service.get("cap_add", ())) == needed.get(name, set())
    assert ("user" in service) == (name in needed)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize(("file", "name"), ALL_SERVICES)
def test_ports_are_on_loopback_unless_a_variable_says_otherwise(file: str, name: str) -> None:
    for port in services(file)[name].get("ports", []):
        assert re.match(r"(127\.0\.0\.1|\$\{(DATA|SERVICES)_BIND_ADDRESS:-127\.0\.0\.1\}):", port), port


@pytest.mark.parametrize(("file", "name"), [(f, n) for f, n in ALL_SERVICES if "image" in services(f)[n]])
def test_images_carry_a_full_tag(file: str, name: str) -> None:
    assert re.search(r":[\w${}.:-]*[\w}]$", services(file)[name]["image"])
    assert ":latest" not in services(file)[name]["image"]


def test_workers_can_be_scaled() -> None:
    worker = services(SERVICES_FILE)["py-worker"]
    assert not {"ports", "container_name", "hostname"} & worker.keys()


def test_the_services_start_after_the_migration_and_the_gateway_after_them() -> None:
    for name in SETTINGS_OF.keys() - {"migrate", "worker-migrate"}:
        assert services(SERVICES_FILE)[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    gateway = services(SERVICES_FILE)["gateway"]["depends_on"]
    assert {state["condition"] for state in gateway.values()} == {"service_healthy"}


@pytest.mark.parametrize("name", ["migrate", "worker-migrate"])
def test_a_release_that_goes_back_meets_a_newer_database(name: str) -> None:
    command = services(SERVICES_FILE)[name]["command"]
    assert "alembic -x newer=accept upgrade head" in " ".join(command)


def test_a_worker_migrates_from_its_own_image_and_only_when_it_is_deployed() -> None:
    worker, migration = (services(SERVICES_FILE)[name] for name in ("py-worker", "worker-migrate"))
    assert migration["image"] == worker["image"]
    assert migration["profiles"] == ["deploy"]


def test_the_data_services_start_only_after_the_check_of_their_passwords() -> None:
    for name in services(DATA_FILE).keys() - {"secrets-check"}:
        assert services(DATA_FILE)[name]["depends_on"] == {
            "secrets-check": {"condition": "service_completed_successfully"}
        }


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"ENVIRONMENT": "local", "DATA_BIND_ADDRESS": "127.0.0.1"}, True),
        ({"ENVIRONMENT": "production", "DATA_BIND_ADDRESS": "127.0.0.1"}, False),
        ({"ENVIRONMENT": "local", "DATA_BIND_ADDRESS": "10.0.0.5"}, False),
        ({"ENVIRONMENT": "production", "DATA_BIND_ADDRESS": "10.0.0.5", "REDIS_PASSWORD": "a-real-one"}, False),
        (
            {
                "ENVIRONMENT": "production",
                "DATA_BIND_ADDRESS": "10.0.0.5",
                "POSTGRES_PASSWORD": "a-real-one",
                "REDIS_PASSWORD": "a-real-one",
                "RABBITMQ_PASSWORD": "a-real-one",
            },
            True,
        ),
    ],
)
def test_published_passwords_never_meet_an_open_port_or_production(settings: dict[str, str], allowed: bool) -> None:
    script = services(DATA_FILE)["secrets-check"]["command"][0].replace("$$", "$")
    published = dict.fromkeys(("POSTGRES_PASSWORD", "REDIS_PASSWORD", "RABBITMQ_PASSWORD"), "tradingflow")
    ran = subprocess.run(
        ["sh", "-ec", script],
        env={"PATH": os.environ["PATH"], **published, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode == 0) is allowed, ran.stderr
    assert allowed or "is a published default" in ran.stderr
    assert "a-real-one" not in ran.stderr


def test_the_data_services_start_from_the_python_folder_too() -> None:
    link = REPOSITORY / "python" / DATA_FILE
    assert link.resolve() == REPOSITORY / DATA_FILE
    assert not re.search(r"[\s\"'](\.{1,2}/)", (REPOSITORY / DATA_FILE).read_text()), (
        "a relative path would differ there"
    )


UNSUPPORTED = {
    "a conditional value": r"(?<!\$)\$\{\w+:?\+",
    "a nested default": r"(?<!\$)\$\{\w+:?-\$\{",
    "a name or include at the top": r"^(name|include|configs):",
    "a reset or override tag": r"!(reset|override)",
    "a v2-only key": r"^\s+(develop|start_interval|host_ip|app_protocol|create_host_path|gpus|attach|annotations|"
    r"label_file|post_start|dockerfile_inline|additional_contexts|platforms):",
}


@pytest.mark.parametrize("what", UNSUPPORTED)
@pytest.mark.parametrize("file", [DATA_FILE, SERVICES_FILE])
def test_docker_compose_1_29_understands_it(file: str, what: str) -> None:
    assert not re.search(UNSUPPORTED[what], (REPOSITORY / file).read_text(), re.MULTILINE)
