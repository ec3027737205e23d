"""The user's own Python, in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import AliasChoices, ConfigDict, Field

from tradingflow.py_worker.kit import (
    NOT_TAKEN,
    Json,
    Node,
    NodeContext,
    NodeFailed,
    NodeInputs,
    NodeOutputs,
    NodeParams,
)
from tradingflow.py_worker.kit.series import EXAMPLE_CLOSES
from tradingflow.py_worker.kit.values import variables

_ASSIGNED = re.compile(r"^([A-Za-z]\w{0,63})[ \t]*(?::[^=\n]+)?=(?!=)", re.MULTILINE)
MOST_HANDLES = 20
RESERVED = frozenset({"stdout_output", "stderr_output"})


class Params(NodeParams):
    python_code: str = Field(
        validation_alias=AliasChoices("python_code", "code"),
        min_length=1,
        max_length=100_000,
        description="Python. An input is a variable under the name of its handle and of the handle it comes from; all "
        "are in `inputs`. Set `output_data`. `import indicators, statistics` for series",
    )
    outputs: tuple[str, ...] | None = Field(
        default=None,
        max_length=MOST_HANDLES,
        description="Variables to send on, each at a handle of its name; default: all that are set at the top level",
    )
    timeout_s: float = Field(default=5.0, gt=0, le=30, description="Seconds the code may compute")


class Inputs(NodeInputs):
    model_config = ConfigDict(extra="allow")


class Outputs(NodeOutputs):
    model_config = ConfigDict(extra="allow")

    output_data: Json = Field(default=NOT_TAKEN, description="The variable `output_data`; not taken when never set")
    stdout_output: str = Field(description="What the code printed")
    stderr_output: str = Field(description="What it printed to stderr")


class CodeNode(Node[Params, Inputs, Outputs]):
    type = "code_node"
    title = "Code"
    description = "Runs your Python in a sandbox without files, network or packages."
    category = "logic"
    default_timeout = timedelta(seconds=45)
    example: ClassVar[dict[str, Any]] = {
        "python_code": "import indicators\nrsi = indicators.RSI(closes, timeperiod=14)\noutput_data = rsi[-1]"
    }
    example_inputs: ClassVar[dict[str, Any]] = {"closes": EXAMPLE_CLOSES}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        values = variables(inputs.model_extra or {}, ctx.incoming)
        named = {name: value for name, value in values.items() if name.isidentifier()}
        result = await ctx.code.run(
            params.python_code,
            {**named, "inputs": values},
            _wanted(params),
            timeout_s=params.timeout_s,
            now=ctx.clock.now(),
            seed=ctx.idempotency_key,
            strict=params.outputs is not None,
        )
        if result.error is not None:
            raise NodeFailed("code_failed", result.error)
        taken = {name: value for name, value in result.outputs.items() if name not in RESERVED}
        return Outputs.model_validate({**taken, "stdout_output": result.stdout, "stderr_output": result.stderr})


def _wanted(params: Params) -> Sequence[str]:
    if params.outputs is not None:
        return params.outputs
    assigned = dict.fromkeys(_ASSIGNED.findall(params.python_code))
    return ["output_data", *(name for name in assigned if name != "output_data")][:MOST_HANDLES]
