"""`pip install -r python/requirements.txt` is enough to run the services: no development package is needed."""

import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
MODULES = (
    "tradingflow.account_manager.server",
    "tradingflow.account_manager.celery_worker",
    "tradingflow.py_worker.server",
    "tradingflow.monitor.server",
    "tradingflow.cli",
)


def test_everything_that_is_started_imports_what_requirements_txt_installs(installed: Path) -> None:
    imports = "; ".join(f"import {module}" for module in MODULES)
    subprocess.run([installed / "python", "-c", imports], cwd=REPOSITORY / "python", check=True)
