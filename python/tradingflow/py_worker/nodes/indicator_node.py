"""Any indicator of TA-Lib, over a series or over one number a cycle."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit import (
    NOT_TAKEN,
    Json,
    Node,
    NodeContext,
    NodeInputs,
    NodeOutputs,
    NodeParams,
)
from tradingflow.py_worker.kit.indicators import compute, indicator_info, indicator_names
from tradingflow.py_worker.kit.series import MAX_POINTS, columns_of

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
