"""If: a CEL expression over the inputs decides which branch goes on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import cel
import numpy as np
from pydantic import ConfigDict, Field, field_validator

from tradingflow.py_worker.kit import (
    NOT_TAKEN,
    BatchRun,
    Column,
    Json,
    Node,
    NodeContext,
    NodeFailed,
    NodeInputs,
    NodeOutputs,
    NodeParams,
)
from tradingflow.py_worker.kit.comparisons import decide
from tradingflow.py_worker.kit.values import as_numbers, variables

# CEL cannot loop without end, but each macro runs over a list and nested ones multiply (about 7 µs a turn). The words
# are counted wherever they stand, so that no way of writing one hides it.
_MACRO = re.compile(r"\b(?:map|filter|all|exists|exists_one)\b")
MAX_TURNS = 50_000
# `map` and `filter` copy what they have gathered so far at every turn (about 65 ns an element).
_GATHERING = re.compile(r"\b(?:map|filter)\b")
MAX_COPIES = 6_000_000
# What joins lists. Beside a number, + adds; a number in a comment has a line's end between, in a text a quote.
_JOIN = re.compile(r"(?<![\w.`])\d[\w.]* *\+|\+(?= *\d)|(\+)")
MAX_EXPRESSION_LENGTH = 2000
MAX_ELEMENTS = 20_000
# CEL copies a text or a list wherever it is named and joined, and `map` keeps a copy for each turn.
MAX_BUILT_BYTES = 100_000_000
_MAP = re.compile(r"\bmap\b")
_VALUE_BYTES = 40
_SHOWN_NUMBER_BYTES = 400  # what string() makes of 1e308


class Params(NodeParams):
    expression: str = Field(
        min_length=1,
        max_length=MAX_EXPRESSION_LENGTH,
        description="CEL, e.g. `price < 1900.0 && rsi < 30.0`; every input handle (and the handle its edge comes from) "
        "is a variable, numbers are doubles",
    )

    @field_validator("expression")
    @classmethod
    def _compiles(cls, expression: str) -> str:
        try:
            _compiled(expression)
        except ValueError as error:
            raise ValueError(str(error).replace(expression, "…", 1)) from error
        return expression


class Inputs(NodeInputs):
    model_config = ConfigDict(extra="allow")


class Outputs(NodeOutputs):
    true: Json = Field(default=NOT_TAKEN, description="The variables, when the expression is true")
    false: Json = Field(default=NOT_TAKEN, description="The variables, when it is false")


class ConditionNode(Node[Params, Inputs, Outputs]):
    type = "condition_node"
    title = "Condition"
    description = (
        "Goes on at `true` or at `false`, as a CEL expression over the inputs decides; the other branch is skipped."
    )
    category = "logic"
    example: ClassVar[dict[str, Any]] = {"expression": "latest < 30.0"}
    example_inputs: ClassVar[dict[str, Any]] = {"latest": 27.5}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        values = variables(inputs.model_extra or {}, ctx.incoming)
        taken = evaluate(params.expression, values)
        ctx.log.info("condition decided", taken=taken, expression=params.expression)
        return Outputs(true=values) if taken else Outputs(false=values)

    def batch(self, run: BatchRun, params: Params) -> Mapping[str, Column] | None:
        columns = {given.source_handle: given.column for given in run.inputs} | run.by_target()
        numbers = {name: column.numbers for name, column in columns.items() if column.numbers is not None}
        if len(numbers) < len(columns) or not all(np.isfinite(held[run.ran]).all() for held in numbers.values()):
            return None
        decided = decide(params.expression, numbers)
        if decided is None:
            return None

        def value(cycle: int) -> Json:
            return {name: column.value(cycle) for name, column in columns.items()}

        return {"true": Column(run.ran & decided, value), "false": Column(run.ran & ~decided, value)}


def evaluate(expression: str, values: Mapping[str, Json]) -> bool:
    """Raises NodeFailed when the expression cannot be computed or is no truth value."""
    if (size := _count(values) + expression.count(",")) > MAX_ELEMENTS:
        raise NodeFailed("condition_too_large", f"a condition may read {MAX_ELEMENTS} values, not {size}")
    if (longest := max(_longest(values), expression.count(",") + 1)) > (limit := _length_limit(expression)):
        raise NodeFailed("condition_too_large", f"this condition may read lists of {limit} elements, not {longest}")
    if _log_of_bytes_built(expression, values) > math.log(MAX_BUILT_BYTES):
        said = f"this condition could build more than {MAX_BUILT_BYTES} bytes of text and lists"
        raise NodeFailed("condition_too_large", f"{said}: name, join (+) or map less, or shorter values")
    try:
        answer = _compiled(expression).execute(as_numbers(values))
    except (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise NodeFailed("condition_failed", _explain(error, values)) from error
    if not isinstance(answer, bool):
        raise NodeFailed("condition_not_boolean", f"the expression gives {type(answer).__name__}, not true or false")
    return answer


def _explain(error: Exception, values: Mapping[str, Json]) -> str:
    have = ", ".join(sorted(values)) or "none"
    hint = " (write numbers in arithmetic with a point: price * 2.0)" if isinstance(error, TypeError) else ""
    return f"{error}{hint}; variables here: {have}"


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> Any:
    return cel.compile(expression)


def _length_limit(expression: str) -> int:
    """How long a list may be, so that macros, even nested in each other, stay below MAX_TURNS and MAX_COPIES.

    Of lists joined with `n` signs + one of `n + 1` times the length is made.
    """
    macros = len(_MACRO.findall(expression))
    if macros == 0:
        return MAX_ELEMENTS
    joins = sum(bool(found) for found in _JOIN.findall(expression))
    log_of_length = math.log(MAX_TURNS) / macros
    if _GATHERING.search(expression):
        log_of_length = min(log_of_length, math.log(MAX_COPIES) / (macros + 1))
    return min(MAX_ELEMENTS, int(math.exp(log_of_length - _log_of_growth(joins, macros))))


def _log_of_growth(signs: int, macros: int) -> float:
    """By how much `signs` make a part longer at most: what a macro gives may be joined again, so they count most when
    they are shared out evenly."""
    layers = macros + 1
    return layers * math.log1p(signs / layers)


@dataclass(frozen=True)
class _Source:
    """What an expression may name: how many bytes it has, and how many turns a macro over it or a part of it takes."""

    size: int
    turns: int
    is_named_again: bool


def _log_of_bytes_built(expression: str, values: Mapping[str, Json]) -> float:
    """The logarithm, for it may be any number, of a bound from above.

    What `n` signs + and , join has at most `n + 1` times the bytes of its longest part. Each `map` moreover keeps what
    its body gives once a turn.
    """
    macros, maps = len(_MACRO.findall(expression)), len(_MAP.findall(expression))
    commas = expression.count(",")
    growth = _log_of_growth(commas + expression.count("+"), macros)
    number_bytes = _SHOWN_NUMBER_BYTES if "string" in expression else _VALUE_BYTES
    sources = [_Source(len(expression) + number_bytes, commas + 1, is_named_again=True)]
    for name, value in values.items():
        sources.append(_Source(_bytes(value, number_bytes), _longest(value), expression.count(name) > 1))
    total = math.log(sum(source.size for source in sources))
    if maps == 0:
        return growth + total
    if macros == 1:
        # The list it runs over is not in its body, unless it is named again.
        kept = max(
            over.turns * inside.size
            for over in sources
            for inside in sources
            if over is not inside or over.is_named_again
        )
        return 2 * growth + math.log(math.exp(total) + kept)
    return (maps + 1) * growth + total + maps * math.log(max(source.turns for source in sources))


def _bytes(value: Json, number_bytes: int) -> int:
    if isinstance(value, str):
        return number_bytes + (len(value) if value.isascii() else 4 * len(value))
    if isinstance(value, Mapping):
        return number_bytes + sum(_bytes(key, number_bytes) + _bytes(held, number_bytes) for key, held in value.items())
    if isinstance(value, list):
        return number_bytes + sum(_bytes(held, number_bytes) for held in value)
    return number_bytes


def _longest(value: Json) -> int:
    """Of the lists and maps in a value, this one included; 1 without any."""
    if isinstance(value, Mapping):
        return max(1, len(value), *map(_longest, value.values()))
    if isinstance(value, list):
        return max(1, len(value), *map(_longest, value))
    return 1


def _count(value: Json) -> int:
    if isinstance(value, Mapping):
        return 1 + sum(_count(item) for item in value.values())
    if isinstance(value, list):
        return 1 + sum(_count(item) for item in value)
    return 1
