"""JSON from edges as numbers: what conditions and indicators compute with.

These are decisions, not money: doubles are right here, and amounts never pass through.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from tradingflow.py_worker.kit.context import Incoming
from tradingflow.py_worker.kit.handles import Json

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
# Text longer than this is not a number anybody meant, and must not be parsed as one.
_LONGEST_NUMBER = 120


def as_numbers(value: Json) -> Json:
    """`value` with every number, and every text that is a decimal number, turned into a double, at any depth."""
    if isinstance(value, str):
        return float(value) if len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value) else value
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return float(value) if abs(value) < 10**300 else math.copysign(math.inf, value)
    if isinstance(value, Mapping):
        return {key: as_numbers(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [as_numbers(item) for item in value]
    return value


def variables(inputs: Mapping[str, Json], incoming: Sequence[Incoming]) -> dict[str, Json]:
    """Inputs by the name of the handle they arrived at and of the handle they left; the former wins."""
    return {signal.source_handle: signal.value for signal in incoming} | dict(inputs)
