"""Every command the READMEs tell people to type is typed by CI or by a test, and both languages say the same."""

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[4]
ENGLISH = REPOSITORY / "README.md"
CHINESE = REPOSITORY / "README.zh-CN.md"

SCRIPTS = ("python/tests/e2e/test_start_scripts.py", 'script(checkout, f"st')
BY_HAND = ("python/tests/e2e/test_local_development.py", "## Local development")
CONTAINERS = ("python/bench/compose_project.py", '["docker-compose"]')
CLI = "python -m tradingflow.cli"
BACKTEST = ("python/tests/unit/docs/test_backtest_guide.py", "README.md")

# Command -> (file that runs it, text in that file which shows that it does).
RUN_BY = {
    "make run": (".ci/run", "make run ONCE=1"),
    "make test": (".ci/run", "make test"),
    "make check": (".ci/run", "make check"),
    "make status": (".ci/run", "make status"),
    "make logs": (".ci/run", "make logs"),
    "make stop": (".ci/run", "make stop"),
    "make help": (".ci/run", "make help"),
    f"{CLI} backtest flow.json --data candles.csv --out out": BACKTEST,
    f"{CLI} backtest check flow.json --data candles.csv": BACKTEST,
    f"{CLI} backtest sweep flow.json --data candles.csv --vary fast.params.timeperiod=5:20:5": BACKTEST,
    "cp .env.example .env": BY_HAND,
    "pip install -r python/requirements.txt": ("python/tests/e2e/conftest.py", "python/requirements.txt"),
    "cd python": BY_HAND,
    "alembic upgrade head": BY_HAND,
    "python -m tradingflow.account_manager.server": BY_HAND,
    "celery -A tradingflow.account_manager.celery_worker worker": BY_HAND,
    "celery -A tradingflow.account_manager.celery_worker beat": BY_HAND,
    "python -m tradingflow.py_worker.server": BY_HAND,
    "python -m tradingflow.monitor.server": BY_HAND,
    "./start_account_services.sh": SCRIPTS,
    "./start_worker.sh": SCRIPTS,
    "./stop_worker.sh": SCRIPTS,
    "./stop_account_services.sh": SCRIPTS,
    "docker-compose -f docker-compose-db-redis-mq.yml up -d": CONTAINERS,
    "docker-compose -f docker-compose-account-and-worker.yml up -d --build": CONTAINERS,
    "docker-compose -f docker-compose-account-and-worker.yml down": CONTAINERS,
    "docker-compose -f docker-compose-db-redis-mq.yml down": CONTAINERS,
}


def commands(readme: Path) -> list[str]:
    """The lines of its `sh` blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    lines = (line.split("#")[0].strip() for block in blocks for line in block.splitlines())
    return [line for line in lines if line]


def test_both_languages_tell_the_same_commands() -> None:
    assert commands(ENGLISH) == commands(CHINESE)


@pytest.mark.parametrize("command", commands(ENGLISH))
def test_a_command_of_the_readme_is_run_by_ci_or_a_test(command: str) -> None:
    file, evidence = RUN_BY[command]
    assert evidence in (REPOSITORY / file).read_text(encoding="utf-8")


def test_no_evidence_is_kept_for_a_command_nobody_is_told() -> None:
    assert RUN_BY.keys() == set(commands(ENGLISH))


@pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=lambda path: path.name)
def test_every_file_a_readme_links_to_exists(readme: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", readme.read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (REPOSITORY / target).exists()] == []


def test_make_help_lists_every_target_the_readme_names() -> None:
    helped = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    named = {command.split()[1] for command in commands(ENGLISH) if command.startswith("make ")}
    assert [target for target in named if f"\n  {target} " not in helped] == []
