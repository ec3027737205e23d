"""Any indicator of TA-Lib, over a series or over one number a cycle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit import (
    NOT_TAKEN,
    BatchRun,
    Column,
    Json,
    Node,
    NodeContext,
    NodeInputs,
    NodeOutputs,
    NodeParams,
)
from tradingflow.py_worker.kit.batch import CandleWindows, Floats, number_column, positions
from tradingflow.py_worker.kit.indicators import (
    Calculation,
    calculation,
    compute,
    indicator_info,
    indicator_names,
)
from tradingflow.py_worker.kit.series import EXAMPLE_CLOSES, MAX_POINTS, columns_of

_POINTS = "points"
Number = float | None


class Params(NodeParams):
    indicator: str = Field(description="TA-Lib name: SMA, EMA, RSI, MACD, BBANDS, ATR, …")
    params: dict[str, int | float] = Field(
        default_factory=dict, description='Its options by TA-Lib name, e.g. {"timeperiod": 14}'
    )
    remember: int = Field(
        default=500, ge=2, le=MAX_POINTS, description="With one number a cycle: how many cycles to remember"
    )

    @field_validator("indicator")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name.upper() not in indicator_names():
            raise ValueError("TA-Lib has no such indicator; names are like SMA, EMA, RSI, MACD, BBANDS, ATR")
        return name.upper()

    @model_validator(mode="after")
    def _options_are_known(self) -> Self:
        allowed = set(indicator_info(self.indicator)["parameters"])
        if unknown := sorted(set(self.params) - allowed):
            known = ", ".join(sorted(allowed)) or "none"
            raise ValueError(f"{self.indicator} has no option {', '.join(unknown)}; it has: {known}")
        return self


class Inputs(NodeInputs):
    series: Json = Field(
        default=None, description="Numbers, candles {open, high, low, close, volume}, or {header, kline_data}"
    )
    value: Decimal | None = Field(default=None, description="One number a cycle, remembered from cycle to cycle")


class Outputs(NodeOutputs):
    values: list[Number] | dict[str, list[Number]] = Field(
        description="One value a point, null while warming up; by line name where there are several lines"
    )
    latest: Any = Field(
        default=NOT_TAKEN, description="The last value (or values by line name); not taken while warming up"
    )


class IndicatorNode(Node[Params, Inputs, Outputs]):
    type = "indicator_node"
    title = "Indicator"
    description = "Computes a TA-Lib indicator over a series, or over one number a cycle that it remembers."
    category = "analysis"
    example: ClassVar[dict[str, Any]] = {"indicator": "RSI", "params": {"timeperiod": 14}}
    example_inputs: ClassVar[dict[str, Any]] = {"series": EXAMPLE_CLOSES}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        columns = columns_of(await _series(ctx, params, inputs))
        lines = compute(params.indicator, params.params, columns)
        values = {name: [_json(value) for value in line] for name, line in lines.items()}
        latest = {name: line[-1] if line else None for name, line in values.items()}
        warm = all(value is not None for value in latest.values())
        single = len(lines) == 1
        return Outputs(
            values=next(iter(values.values())) if single else values,
            latest=(next(iter(latest.values())) if single else latest) if warm else NOT_TAKEN,
        )

    def batch(self, run: BatchRun, params: Params) -> Mapping[str, Column] | None:
        inputs = run.by_target()
        if "series" in inputs:
            given = inputs["series"]
            windows = _Windows(given.columns, given.starts, given.ends) if isinstance(given, CandleWindows) else None
        else:
            windows = _remembered(run, inputs.get("value"), params.remember)
        return None if windows is None else _evaluated(run, params, windows)


@dataclass(frozen=True)
class _Windows:
    """The series of each cycle: rows `starts[i]` to `ends[i]` of `columns`."""

    columns: Mapping[str, Floats]
    starts: Sequence[int]
    ends: Sequence[int]

    def at(self, cycle: int) -> dict[str, Floats]:
        start, end = self.starts[cycle], self.ends[cycle]
        return {name: column[start:end] for name, column in self.columns.items()}


def _remembered(run: BatchRun, given: Column | None, remember: int) -> _Windows | None:
    """One number a cycle, of the cycles the node ran in."""
    if given is None or given.numbers is None or not run.every_cycle:
        return None
    ends = np.cumsum(run.ran, dtype=np.int64)
    starts = np.maximum(0, ends - remember)
    return _Windows({"close": given.numbers[run.ran]}, positions(starts), positions(ends))


def _evaluated(run: BatchRun, params: Params, windows: _Windows) -> Mapping[str, Column] | None:
    calculated = calculation(params.indicator, params.params)
    if not set(calculated.columns) <= windows.columns.keys():
        return None
    try:
        last = _last_of_lines(run, calculated, windows)
    except Exception:  # noqa: BLE001 (TA-Lib raises bare Exception; the run cycle by cycle says what is wrong)
        return None
    names = calculated.output_names

    def values(cycle: int) -> Json:
        lines = compute(params.indicator, params.params, windows.at(cycle))
        listed = {name: [_json(value) for value in line] for name, line in lines.items()}
        return listed[names[0]] if len(names) == 1 else listed

    warm = run.ran & np.isfinite(last).all(axis=0)
    return {"values": Column(run.ran, values), "latest": _latest(names, last, warm)}


def _last_of_lines(run: BatchRun, calculated: Calculation, windows: _Windows) -> Floats:
    """Rows are lines, columns cycles; NaN while warming up and where the node does not run.

    Each cycle computes over its own window: a running sum begun elsewhere rounds differently.
    """
    columns = [windows.columns[name] for name in calculated.columns]
    last = np.full((len(calculated.output_names), run.cycles), np.nan)
    starts, ends, lines = windows.starts, windows.ends, calculated.lines
    for cycle in positions(np.flatnonzero(run.ran & (np.asarray(ends) > np.asarray(starts)))):
        start, end = starts[cycle], ends[cycle]
        for row, line in enumerate(lines(*[column[start:end] for column in columns])):
            last[row, cycle] = line[-1]
    return last


def _latest(names: Sequence[str], last: Floats, warm: NDArray[np.bool_]) -> Column:
    if len(names) == 1:
        return number_column(warm, last[0])
    return Column(warm, lambda cycle: {name: float(last[line, cycle]) for line, name in enumerate(names)})


async def _series(ctx: NodeContext, params: Params, inputs: Inputs) -> Json:
    if inputs.series is not None:
        return inputs.series
    if inputs.value is None:
        raise InvalidInput("series_missing", "connect the handle `series`, or `value` for one number a cycle")
    return await _remember(ctx, inputs.value, params.remember)


async def _remember(ctx: NodeContext, value: Decimal, limit: int) -> list[str]:
    """The numbers of the cycles so far, oldest first. A cycle run again replaces its own number."""
    known = await ctx.state.get(_POINTS) or []
    others = [point for point in known if point[0] != ctx.cycle]
    points = sorted([*others, [ctx.cycle, str(value)]], key=lambda point: point[0])[-limit:]
    await ctx.state.set(_POINTS, points)
    return [number for _, number in points]


def _json(value: Any) -> Number:
    number = float(value)
    return number if math.isfinite(number) else None
