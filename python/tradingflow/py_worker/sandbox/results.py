"""What user code leaves behind, as JSON; and what it did wrong, with line and column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal

from pydantic_monty import MontyCrashedError, MontyError

from tradingflow.py_worker.kit.handles import Json

MAX_COST = 1_000_000  # bytes of JSON, roughly: what a signal may weigh
VALUE_COST = 8
MAX_DEPTH = 60
LARGEST_EXACT = 2**53


class NotJson(ValueError):
    """The value cannot travel on an edge."""


class Budget:
    """How much more a result may weigh."""

    def __init__(self, cost: int = MAX_COST) -> None:
        self._left = cost

    def spend(self, cost: int = VALUE_COST) -> None:
        self._left -= cost
        if self._left < 0:
            raise NotJson(f"weighs more than {MAX_COST // 1_000_000} MB")


def as_json(value: object, budget: Budget | None = None, depth: int = 0) -> Json:
    """Numbers beyond 53 bits, decimals and times become text; NaN and infinities null. Raises NotJson."""
    budget = budget or Budget()
    if depth > MAX_DEPTH:
        raise NotJson(f"is nested deeper than {MAX_DEPTH}")
    if isinstance(value, Mapping):
        budget.spend(VALUE_COST * len(value))
        return {_key(key, budget): as_json(item, budget, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        budget.spend(VALUE_COST * len(value))
        return [as_json(item, budget, depth + 1) for item in value]
    return _scalar(value, budget)


def _scalar(value: object, budget: Budget) -> Json:
    if isinstance(value, str):
        budget.spend(len(value))
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= LARGEST_EXACT else _digits(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal | datetime | date):
        return str(value) if isinstance(value, Decimal) else value.isoformat()
    raise NotJson(f"is a {type(value).__name__}; allowed are numbers, text, booleans, None, lists and dicts")


def _digits(value: int) -> str:
    if value.bit_length() > 4096:
        raise NotJson("is an integer of more than 4096 bits")
    return str(value)


def _key(key: object, budget: Budget) -> str:
    budget.spend(len(key) if isinstance(key, str) else VALUE_COST)
    if not isinstance(key, str | int):
        raise NotJson("has a key that is no text")
    return key if isinstance(key, str) else _digits(key)


def explain(error: MontyError) -> str:
    """`line 3, column 5: NameError: name 'x' is not defined`."""
    if isinstance(error, MontyCrashedError):
        return "TimeoutError: stopped after its time" if error.timed_out else "MemoryError: it used too much memory"
    frames = error.traceback() if hasattr(error, "traceback") else []
    where = f"line {frames[-1].line}, column {frames[-1].column}: " if frames else ""
    return where + str(error)[:2000]
