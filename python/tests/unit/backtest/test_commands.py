"""The command line of a backtest, on files as a user has them."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.backtest.flows import cross_flow, generated
from tradingflow.cli import app
from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.backtest.report import embedded

runner = CliRunner()


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    path = tmp_path / "flow.json"
    path.write_text(json.dumps({"flow_id": "cross", "cycle_interval": "5m", "flow_json": cross_flow(5, 12, 20)}))
    return path


@pytest.fixture
def candles(tmp_path: Path) -> Path:
    path, made = tmp_path / "candles.csv", generated(400)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["date", "open", "high", "low", "close", "volume"])
        for row in made.rows(0, len(made)):
            writer.writerow([datetime.fromtimestamp(row[0] / 1000, UTC).isoformat(), *row[1:]])
    return path


def invoke(*words: object) -> Any:
    found = runner.invoke(app, ["backtest", *map(str, words)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_a_backtest_prints_figures_and_writes_its_files(flow: Path, candles: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = invoke(flow, "--data", candles, "--cash", "500", "--out", out)
    assert found.exit_code == 0
    assert "max drawdown" in found.output
    result = json.loads((out / "result.json").read_bytes())
    assert result["figures"]["initial_equity"] == 500
    assert len(result["equity"]) == 400
    assert len((out / "trades.csv").read_text().splitlines()) == result["figures"]["trades"] + 1
    assert len((out / "equity.csv").read_text().splitlines()) == 401


def test_the_report_needs_no_network_and_escapes_what_the_flow_says(candles: Path, tmp_path: Path) -> None:
    flow = tmp_path / "flow.json"
    hostile = "</script><script>alert(1)</script>"
    flow.write_text(json.dumps({"flow_id": hostile, "cycle_interval": "5m", "flow_json": cross_flow(5, 12, 20)}))
    invoke(flow, "--data", candles, "--out", tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "alert(1)</script>" not in page
    assert 'src="http' not in page
    assert "Plotly.newPlot" in page


def test_no_text_of_a_flow_can_end_the_script_it_is_embedded_in() -> None:
    assert embedded({"label": "</script><!--"}) == '{"label":"\\u003c/script>\\u003c!--"}'


def test_the_result_is_json_on_demand(flow: Path, candles: Path) -> None:
    assert json.loads(invoke(flow, "--data", candles, "--json").stdout)["cycles"] == 400


def test_a_check_finds_no_look_ahead_and_says_the_warm_up(flow: Path, candles: Path) -> None:
    found = invoke("check", flow, "--data", candles, "--points", "3")
    assert found.exit_code == 0
    assert "no decision rests on what came later" in found.output
    assert "from cycle 11 on" in found.output  # the twelfth candle completes the slow average


def test_a_sweep_says_that_the_best_of_noise_is_not_better_than_chance(
    flow: Path, candles: Path, tmp_path: Path
) -> None:
    vary = ["--vary", "fast.params.timeperiod=3:6:1", "--vary", "slow.params.timeperiod=10,15"]
    found = invoke("sweep", flow, "--data", candles, *vary, "--folds", "2", "--processes", "1", "--out", tmp_path)
    assert found.exit_code == 0
    assert "NOT better than chance" in " ".join(found.output.split())
    swept = json.loads((tmp_path / "sweep.json").read_bytes())
    assert len(swept["trials"]) == 8
    assert len(swept["walk_forward"]) == 2
    assert "heatmap" in (tmp_path / "sweep.html").read_text()


def test_two_processes_find_what_one_finds(flow: Path, candles: Path, tmp_path: Path) -> None:
    vary = ["--vary", "fast.params.timeperiod=3:6:1"]
    invoke("sweep", flow, "--data", candles, *vary, "--processes", "1", "--out", tmp_path / "one")
    invoke("sweep", flow, "--data", candles, *vary, "--processes", "2", "--out", tmp_path / "two")
    assert (tmp_path / "one/sweep.json").read_bytes() == (tmp_path / "two/sweep.json").read_bytes()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("date,open,high,low,close\n2026-01-01,1,1,1,1\n2026-01-01,1,1,1,1\n", "candles_out_of_order"),
        ("date,open,high,low,close\n2026-01-01,1,1,1,1\n2026-01-02,1,1,2,1\n", "invalid_candle"),
        ("date,open,high,low,close\n2026-01-01,1,1,1,1\n2026-01-02,1,1,1,nan\n", "invalid_candle"),
        ("date,open,high,low,close\n2026-01-01,1,1,1,1\n2026-01-02,1,1,1\n", "invalid_candles"),
        ("open,high,low,close\n1,1,1,1\n", "invalid_candles"),
        ("date,open,high,low,close\n", "too_few_candles"),
        ("", "invalid_candles"),
    ],
)
def test_candles_that_are_none_are_refused_by_name(flow: Path, tmp_path: Path, line: str, code: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(line)
    with pytest.raises(InvalidInput) as refused:
        invoke(flow, "--data", path)
    assert refused.value.code == code


def test_a_parameter_of_no_node_is_refused(flow: Path, candles: Path) -> None:
    with pytest.raises(InvalidInput, match="no node 'nobody'"):
        invoke("sweep", flow, "--data", candles, "--vary", "nobody.limit=1,2")


def test_amounts_beyond_64_bits_are_told_as_text(flow: Path, candles: Path, tmp_path: Path) -> None:
    quote = "0x00000000000000000000000000000000000000bb"
    spec = tmp_path / "spec.json"
    market = {"symbol": "ETHBTC", "quote_token": quote}
    spec.write_text(json.dumps({"markets": [market], "initial_balances": {quote: str(10**30)}}))
    found = invoke(flow, "--data", candles, "--spec", spec, "--json")
    result = json.loads(found.stdout)
    assert result["spec"]["initial_balances"] == {quote: str(10**30)}
    assert result["figures"]["initial_equity"] == 1e12
