"""If: a CEL expression over the inputs decides which branch goes on."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
MAX_EXPRESSION_LENGTH = 2000
MAX_ELEMENTS = 20_000


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
    if (size := _count(values) + expression.count(",")) > (limit := _size_limit(expression)):
        raise NodeFailed("condition_too_large", f"this condition may read {limit} values, not {size}")
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


def _size_limit(expression: str) -> int:
    """How many values an expression may read, so that its macros stay below MAX_TURNS even nested in each other."""
    macros = len(_MACRO.findall(expression))
    return min(MAX_ELEMENTS, int(MAX_TURNS ** (1 / macros))) if macros else MAX_ELEMENTS


def _count(value: Json) -> int:
    if isinstance(value, Mapping):
        return 1 + sum(_count(item) for item in value.values())
    if isinstance(value, list):
        return 1 + sum(_count(item) for item in value)
    return 1
