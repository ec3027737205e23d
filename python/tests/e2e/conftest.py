"""A checkout of its own with a `.env` that leads to private servers, and Python with nothing but what users install."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devstack.anvil import CHAIN_ID, Anvil
from devstack.ports import LOOPBACK, free_port

REPOSITORY = Path(__file__).resolve().parents[3]
REQUIREMENTS = "python/requirements.txt"
COPIED = ("tradingflow", "migrations", "scripts")


@pytest.fixture
def checkout(tmp_path: Path, database_url: str, redis_url: str, rabbitmq_url: str, anvil: Anvil) -> Path:
    """The scripts, `.env.example`, `.env` and the code of the services, in a folder of the test's own."""
    for file in (*REPOSITORY.glob("*.sh"), REPOSITORY / ".env.example"):
        shutil.copy2(file, tmp_path)
    for folder in COPIED:
        shutil.copytree(REPOSITORY / "python" / folder, tmp_path / "python" / folder)
    for name in ("alembic.ini", "requirements.txt"):
        shutil.copy2(REPOSITORY / "python" / name, tmp_path / "python")
    account_port = free_port()
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "RABBITMQ_URL": rabbitmq_url,
        "CHAINS": json.dumps([{"chain_id": CHAIN_ID, "name": "local", "rpc_urls": [anvil.url]}]),
        "ACCOUNT_MANAGER_PORT": account_port,
        "PY_WORKER_PORT": free_port(),
        "MONITOR_PORT": free_port(),
        "CELERY_WORKER_PORT": free_port(),
        "CELERY_BEAT_PORT": free_port(),
        "JWKS_URL": f"http://{LOOPBACK}:{account_port}/.well-known/jwks.json",
    }
    ours = "".join(f"{name}={value}\n" for name, value in settings.items())
    for name in (".env", ".env.example"):
        (tmp_path / name).write_text((REPOSITORY / ".env.example").read_text() + ours)
    return tmp_path


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that holds what requirements.txt names, and nothing else."""
    environment = tmp_path_factory.mktemp("installed")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    install = [*uv, "pip", "install", "--quiet", "--require-hashes", "--python", str(environment / "bin" / "python")]
    subprocess.run([*install, "--requirement", str(REPOSITORY / REQUIREMENTS)], check=True)
    return environment / "bin"
