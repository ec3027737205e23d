"""What the command line asks for, as a flow, candles and a spec."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.backtest.candle_files import read_candles
from tradingflow.py_worker.backtest.candles import Candles
from tradingflow.py_worker.backtest.driver import TestedFlow
from tradingflow.py_worker.backtest.flow_file import read_flow
from tradingflow.py_worker.backtest.run import flow_under_test
from tradingflow.py_worker.backtest.spec import BacktestSpec
from tradingflow.py_worker.kit.intervals import interval_ms

EACH_CANDLE = "candle"


@dataclass(frozen=True)
class Asked:
    """Everything one backtest needs. `graph` is the flow's JSON, for those that vary it."""

    flow: TestedFlow
    graph: dict[str, Any]
    series: Sequence[Candles]
    spec: BacktestSpec


def asked_for(flow_path: Path, data: Sequence[str], spec_path: Path | None, options: dict[str, Any]) -> Asked:
    """Read the files; `options` are fields of the spec that win over its file's. Raises InvalidInput."""
    file = read_flow(flow_path)
    flow = flow_under_test(file.graph, file.flow_id)
    fields = _spec_fields(spec_path)
    given = {name: value for name, value in options.items() if value is not None}
    for name in ("fill_model", "policy"):
        if name in given:
            given[name] = {**fields.get(name, {}), **given[name]}
    fields = {"cycle_interval": file.cycle_interval, **fields, **given}
    if fields["cycle_interval"] == EACH_CANDLE:
        fields["cycle_interval"] = None
    series = [_series(entry, file.graph) for entry in data]
    return Asked(flow, file.graph, series, read_spec(fields))


def read_spec(fields: dict[str, Any]) -> BacktestSpec:
    """Raises InvalidInput naming each field at fault, without repeating its value."""
    try:
        return BacktestSpec.model_validate(fields)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        what = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'spec'}: {p['msg']}" for p in problems)
        raise InvalidInput("invalid_spec", what) from error


def _spec_fields(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput("invalid_spec", f"{path} is no JSON file: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInput("invalid_spec", f"{path} holds no JSON object")
    return fields


def _series(entry: str, graph: dict[str, Any]) -> Candles:
    """`candles.csv`, `SYMBOL=candles.csv` or `SYMBOL:5m=candles.csv`."""
    name, sign, file = entry.rpartition("=")
    symbol, _, interval = name.partition(":")
    path = Path(file if sign else entry)
    return read_candles(path, symbol or _only_symbol(graph) or path.stem, interval_ms(interval) if interval else None)


def _only_symbol(graph: dict[str, Any]) -> str | None:
    """The symbol the flow's nodes ask for, when they all ask for the same."""
    nodes = graph.get("nodes") or []
    found = {node["config"]["symbol"] for node in nodes if isinstance(node.get("config", {}).get("symbol"), str)}
    return found.pop() if len(found) == 1 else None
