"""Modules user code may import that are ours: indicators and statistics. They run in the worker, on numbers alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import talib
from pydantic_monty import ExternalModule

from tradingflow.core.errors import TradingFlowError
from tradingflow.py_worker.kit.indicators import compute
from tradingflow.py_worker.kit.series import MAX_POINTS, columns_of

STATISTICS = ("mean", "median", "stdev", "pstdev", "variance", "pvariance", "correlation", "linear_regression")


def host_modules() -> Mapping[str, Callable[[], ExternalModule]]:
    """By the name user code imports them as: `import indicators`, `import statistics`."""
    return {"indicators": _indicators, "statistics": _statistics}


@cache
def _indicators() -> ExternalModule:
    names: list[str] = talib.get_functions()  # type: ignore[no-untyped-call]
    return ExternalModule({name: _indicator(name) for name in names})


def _indicator(name: str) -> Callable[..., Any]:
    def call(series: Any, **options: Any) -> Any:
        lines = _as_value_error(lambda: compute(name, _numbers(options), columns_of(series)))
        values = {line: [None if np.isnan(v) else float(v) for v in column] for line, column in lines.items()}
        return next(iter(values.values())) if len(values) == 1 else values

    return call


def _numbers(options: Mapping[str, Any]) -> dict[str, int | float]:
    if not all(isinstance(value, int | float) and abs(value) < 1e9 for value in options.values()):
        raise ValueError("options of an indicator are numbers")
    return dict(options)


def _as_value_error(call: Callable[[], Any]) -> Any:
    """What user code can catch and understand."""
    try:
        return call()
    except TradingFlowError as error:
        raise ValueError(error.detail) from None


@cache
def _statistics() -> ExternalModule:
    return ExternalModule({name: _statistic(getattr(statistics, name)) for name in STATISTICS})


def _statistic(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*series: Any) -> Any:
        checked = [[float(value) for value in values] for values in series if _is_short(values)]
        answer = function(*checked)
        return list(answer) if isinstance(answer, tuple) else answer

    return call


def _is_short(values: Any) -> bool:
    if not isinstance(values, list | tuple) or len(values) > MAX_POINTS:
        raise ValueError(f"statistics take lists of at most {MAX_POINTS} numbers")
    return True
