"""Every command about backtests that the guide and the README tell people to type does what they say."""

import csv
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.backtest.flows import generated
from tradingflow.cli import app
from tradingflow.py_worker.backtests.schemas import BacktestRequest

REPOSITORY = Path(__file__).resolve().parents[4]
GUIDE = (REPOSITORY / "docs/guides/backtest.md").read_text(encoding="utf-8")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PROGRAM = "python -m tradingflow.cli "


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE + README, re.DOTALL)
    lines = (line.strip() for block in blocks for line in block.splitlines())
    return list(dict.fromkeys(line for line in lines if line.startswith(f"{PROGRAM}backtest ")))


def json_blocks() -> list[str]:
    """The flow, the spec, and the body of a request."""
    return re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)


def test_the_request_of_the_guide_is_one_the_route_takes() -> None:
    BacktestRequest.model_validate_json(json_blocks()[2])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files the guide speaks of."""
    flow, spec, _ = json_blocks()
    (tmp_path / "flow.json").write_text(flow)
    (tmp_path / "spec.json").write_text(spec)
    candles = generated(300)
    with (tmp_path / "candles.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["open_time", "open", "high", "low", "close", "volume"])
        writer.writerows([int(row[0]), *row[1:]] for row in candles.rows(0, len(candles)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", commands())
def test_a_command_about_backtests_works_as_typed(command: str, folder: Path) -> None:
    words = shlex.split(command.removeprefix(PROGRAM))
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    if "--out" in words:
        assert list((folder / words[words.index("--out") + 1]).glob("*.html"))
