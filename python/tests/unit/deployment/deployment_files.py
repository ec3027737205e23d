"""The deployment files as they stand in the repository."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[4]
DATA_FILE = "docker-compose-db-redis-mq.yml"
SERVICES_FILE = "docker-compose-account-and-worker.yml"
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_][A-Z0-9_]*)")


@cache
def compose_file(name: str) -> dict[str, Any]:
    """A compose file, merged keys resolved."""
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / name).read_text())
    return loaded


def compose_variables(name: str) -> set[str]:
    """Every variable that a compose file takes from `.env`: written as ${NAME}, or handed on without a value."""
    names = set(VARIABLE.findall((REPOSITORY / name).read_text()))
    for service in compose_file(name)["services"].values():
        names |= {key for key, value in service.get("environment", {}).items() if value is None}
    return names
