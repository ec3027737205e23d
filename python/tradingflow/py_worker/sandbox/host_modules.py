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
from tradingflow.py_worker.kit.series import LONGEST_NUMBER, MAX_POINTS, columns_of

STATISTICS = ("mean", "median", "stdev", "pstdev", "variance", "pvariance", "correlation", "linear_regression")
# Host functions hold the worker's interpreter lock: about 20 ms for this many numbers.
MAX_POINTS_PER_RUN = 50_000


class HostModules:
    """The modules of one run, by the name user code imports them as; together they compute on so many numbers."""

    def __init__(self, points: int = MAX_POINTS_PER_RUN) -> None:
        self._left = points

    def factories(self) -> Mapping[str, Callable[[], ExternalModule]]:
        return {"indicators": self._indicators, "statistics": self._statistics}

    def _indicators(self) -> ExternalModule:
        return ExternalModule({name: self._indicator(name) for name in _indicator_names()})

    def _indicator(self, name: str) -> Callable[..., Any]:
        def call(series: Any, **options: Any) -> Any:
            self._spend(series)
            lines = _as_value_error(lambda: compute(name, _numbers(options), columns_of(series)))
            values = {line: [None if np.isnan(v) else float(v) for v in column] for line, column in lines.items()}
            return next(iter(values.values())) if len(values) == 1 else values

        return call

    def _statistics(self) -> ExternalModule:
        return ExternalModule({name: self._statistic(getattr(statistics, name)) for name in STATISTICS})

    def _statistic(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*series: Any) -> Any:
            for values in series:
                self._spend(values)
            answer = function(*([_number(value) for value in values] for values in series))
            return list(answer) if isinstance(answer, tuple) else answer

        return call

    def _spend(self, series: Any) -> None:
        if not isinstance(series, list | tuple | dict):
            raise ValueError("a series is a list of numbers")  # noqa: TRY004 - what user code is told to catch
        points = len(series.get("kline_data", ())) if isinstance(series, dict) else len(series)
        if points > MAX_POINTS:
            raise ValueError(f"a series has at most {MAX_POINTS} points")
        self._left -= points
        if self._left < 0:
            raise ValueError(f"one run may compute on {MAX_POINTS_PER_RUN} points")


@cache
def _indicator_names() -> tuple[str, ...]:
    return tuple(talib.get_functions())  # type: ignore[no-untyped-call]


def _numbers(options: Mapping[str, Any]) -> dict[str, int | float]:
    if not all(isinstance(value, int | float) and abs(value) < 1e9 for value in options.values()):
        raise ValueError("options of an indicator are numbers")
    return dict(options)


def _number(value: Any) -> float:
    """Text may be a number when it is short: an error about a long one would take the worker's time to write."""
    if isinstance(value, str) and len(value) > LONGEST_NUMBER:
        raise ValueError("a series holds numbers")
    return float(value)


def _as_value_error(call: Callable[[], Any]) -> Any:
    """What user code can catch and understand."""
    try:
        return call()
    except TradingFlowError as error:
        raise ValueError(error.detail) from None
