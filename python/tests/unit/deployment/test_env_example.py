"""`.env.example` names every setting there is, and nothing that is not one."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import SecretStr, ValidationError

from tests.unit.deployment.deployment_files import DATA_FILE, REPOSITORY, SERVICES_FILE, compose_variables
from tradingflow.core.config import (
    LOCAL_ONLY_SECRETS,
    AccountManagerSettings,
    AlertSettings,
    BeatSettings,
    Environment,
    ExecutorSettings,
    MonitorSettings,
    PlatformSettings,
    WorkerSettings,
)

EXAMPLE = REPOSITORY / ".env.example"
SETTINGS: tuple[type[PlatformSettings], ...] = (
    AccountManagerSettings,
    ExecutorSettings,
    BeatSettings,
    WorkerSettings,
    MonitorSettings,
)
COMPOSE_FILES = (DATA_FILE, SERVICES_FILE, "docker-compose-observability.yml")
# Read by compose itself, written in no compose file.
COMPOSE_OWN = {"COMPOSE_PROJECT_NAME"}
ASSIGNMENT = re.compile(r"^(# )?([A-Z][A-Z0-9_]*)=", re.MULTILINE)


def named() -> list[str]:
    """Every variable of the example, set or shown as a comment."""
    return [name for _, name in ASSIGNMENT.findall(EXAMPLE.read_text())]


def settings_names() -> set[str]:
    classes: tuple[type[Environment], ...] = (*SETTINGS, AlertSettings)
    return {field.upper() for cls in classes for field in cls.model_fields}


def values() -> dict[str, str]:
    return {name: value for name, value in dotenv_values(EXAMPLE).items() if value}


def test_every_setting_is_in_the_example() -> None:
    assert settings_names() - set(named()) == set()


def test_every_variable_of_the_example_is_read_by_something() -> None:
    read = settings_names() | COMPOSE_OWN | set().union(*(compose_variables(file) for file in COMPOSE_FILES))
    assert set(named()) - read == set()


def test_every_variable_of_the_compose_files_is_in_the_example() -> None:
    assert set().union(*(compose_variables(file) for file in COMPOSE_FILES)) - set(named()) == set()


def test_no_variable_is_named_twice() -> None:
    assert sorted(named()) == sorted(set(named()))


def test_a_reason_stands_before_every_variable() -> None:
    blocks = re.split(r"\n(?=# --- )", EXAMPLE.read_text())[1:]
    assert blocks
    for block in blocks:
        body = block.split("\n")[1:]
        assert body[0].startswith("# "), block
        assert not ASSIGNMENT.match(body[0]), block


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_example_as_it_is_starts_every_service(
    settings: type[PlatformSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_this_file(tmp_path, monkeypatch)
    loaded = settings()
    assert loaded.chain(31337).rpc_urls == ("http://127.0.0.1:8545",)
    assert "127.0.0.1:5432" in loaded.database_dsn


@pytest.mark.parametrize("settings", [*SETTINGS, AlertSettings])
def test_set_values_equal_the_defaults_so_that_the_example_hides_no_surprise(settings: type[Environment]) -> None:
    for name, field in settings.model_fields.items():
        shown = values().get(name.upper())
        if shown is None or name == "chains":
            continue
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        text = "[]" if default == () else f"{default:g}" if isinstance(default, float) else str(default)
        assert shown == text, name


@pytest.mark.parametrize("settings", SETTINGS)
def test_production_refuses_the_example(
    settings: type[PlatformSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_this_file(tmp_path, monkeypatch)
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(ValidationError, match="POSTGRES_PASSWORD, REDIS_PASSWORD, RABBITMQ_PASSWORD"):
        settings()


def test_one_host_for_the_three_data_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_this_file(tmp_path, monkeypatch)
    monkeypatch.setenv("DATA_SERVER_HOST", "10.0.0.5")
    monkeypatch.setenv("REDIS_HOST", "10.0.0.6")
    settings = PlatformSettings()
    assert "@10.0.0.5:5432/" in settings.database_dsn
    assert "@10.0.0.6:6379/" in settings.redis_dsn
    assert "@10.0.0.5:5672/" in settings.rabbitmq_dsn


def test_a_shell_reads_the_example_as_the_settings_do(tmp_path: Path) -> None:
    script = f"set -a; . {EXAMPLE}; printf '%s' \"$CHAINS\""
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert said == values()["CHAINS"]


def test_the_data_services_refuse_the_same_words_as_the_settings() -> None:
    text = (REPOSITORY / DATA_FILE).read_text()
    refused = re.search(r'"" \| ([a-z| -]+)\)', text)
    assert refused is not None
    assert set(refused.group(1).replace(" ", "").split("|")) == LOCAL_ONLY_SECRETS


def only_this_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a copy of the example as `.env`, with nothing of it in the environment."""
    for name in named():
        monkeypatch.delenv(name, raising=False)
    (folder / "python").mkdir()
    shutil.copy(EXAMPLE, folder / ".env")
    monkeypatch.chdir(folder / "python")
