"""TA-Lib by name: what exists, what it takes, and the computing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import talib
from talib import abstract

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit.node import NodeFailed
from tradingflow.py_worker.kit.series import Column


def compute(name: str, options: Mapping[str, int | float], columns: Mapping[str, Column]) -> dict[str, Column]:
    """Line name to values as long as the series. Raises InvalidInput, or NodeFailed when TA-Lib refuses."""
    function = _function(name)
    needed = _needed(name)
    if lacking := ", ".join(sorted(needed - columns.keys())):
        raise InvalidInput("invalid_series", f"{name} needs {', '.join(sorted(needed))}; lacking: {lacking}")
    if not len(next(iter(columns.values()))):
        return {line: np.array([]) for line in function.output_names}
    try:
        lines = function({column: columns[column] for column in needed}, **options)
    except Exception as error:
        raise NodeFailed("indicator_failed", f"TA-Lib refuses {name} with {dict(options)}: {error}") from error
    if len(function.output_names) == 1:
        lines = [lines]
    return dict(zip(function.output_names, lines, strict=True))


def _function(name: str) -> Any:
    return abstract.Function(name)  # type: ignore[attr-defined]


@cache
def indicator_names() -> frozenset[str]:
    return frozenset(talib.get_functions())  # type: ignore[no-untyped-call]


@cache
def indicator_info(name: str) -> dict[str, Any]:
    info: dict[str, Any] = _function(name).info
    return info


@cache
def _needed(name: str) -> frozenset[str]:
    """Columns an indicator reads, flattened from TA-Lib's nested input names."""
    columns: set[str] = set()
    for wanted in indicator_info(name)["input_names"].values():
        columns.update([wanted] if isinstance(wanted, str) else wanted)
    return frozenset(columns)


@dataclass(frozen=True)
class Calculation:
    """`compute` without its look-ups and checks, for many calls. `columns` are what `lines` takes, in that order;
    it gives the lines in the order of `output_names`."""

    columns: tuple[str, ...]
    output_names: tuple[str, ...]
    lines: Callable[..., Sequence[Column]]


def calculation(name: str, options: Mapping[str, int | float]) -> Calculation:
    function: Any = getattr(talib, name)
    names = tuple(_function(name).output_names)
    columns: list[str] = []
    for wanted in indicator_info(name)["input_names"].values():
        columns += [wanted] if isinstance(wanted, str) else wanted

    def single(*inputs: Column) -> Sequence[Column]:
        return (function(*inputs, **options),)

    def several(*inputs: Column) -> Sequence[Column]:
        lines: Sequence[Column] = function(*inputs, **options)
        return lines

    return Calculation(tuple(columns), names, single if len(names) == 1 else several)
