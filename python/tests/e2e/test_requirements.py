"""`pip install -r python/requirements.txt` is enough to run the services: no development package is needed."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
REQUIREMENTS = "python/requirements.txt"
MODULES = (
    "tradingflow.account_manager.server",
    "tradingflow.account_manager.celery_worker",
    "tradingflow.py_worker.server",
    "tradingflow.monitor.server",
    "tradingflow.cli",
)


def test_the_services_start_on_what_requirements_txt_installs(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path)], check=True)
    install = [*uv, "pip", "install", "--quiet", "--require-hashes", "--python", str(python)]
    subprocess.run([*install, "--requirement", str(REPOSITORY / REQUIREMENTS)], check=True)
    imports = "; ".join(f"import {module}" for module in MODULES)
    subprocess.run([python, "-c", imports], cwd=REPOSITORY / "python", check=True)
    subprocess.run([python, "-m", "alembic", "--help"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([python, "-m", "celery", "--version"], check=True, stdout=subprocess.DEVNULL)
