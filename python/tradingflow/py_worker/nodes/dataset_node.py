"""The older name of both dataset nodes: `mode` says which of them it is."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.kit import Json, Node, NodeContext, NodeInputs, NodeOutputs
from tradingflow.py_worker.kit.rows import rows_of
from tradingflow.py_worker.kit.storage import LIMIT, read_rows, store_rows
from tradingflow.py_worker.nodes.dataset_output_node import WritingPlace


class Params(WritingPlace):
    mode: Literal["read", "append", "write"] = Field(default="read", description="What to do with the dataset")
    limit: int = LIMIT
    missing_ok: bool = Field(default=False, description="read: give no rows, instead of failing, where there is none")

    @model_validator(mode="after")
    def _can_write(self) -> Self:
        self.check_writing(self.mode)
        return self


class Inputs(NodeInputs):
    data: Json = Field(default=None, description="append, write: an object is a row, a list of them rows")


class Outputs(NodeOutputs):
    data: list[dict[str, Json]] = Field(description="The rows read or written")


class DatasetNode(Node[Params, Inputs, Outputs]):
    type = "dataset_node"
    title = "Dataset"
    description = "Reads or writes a dataset, as dataset_input_node and dataset_output_node do; `mode` says which."
    category = "data"
    example: ClassVar[dict[str, Any]] = {"mode": "read", "name": "signals", "missing_ok": True}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        if params.mode == "read":
            return Outputs(data=await read_rows(ctx, params, params.limit, missing_ok=params.missing_ok))
        if inputs.data is None:
            raise InvalidInput("data_missing", f"mode {params.mode} needs an edge to the handle `data`")
        rows = rows_of(inputs.data)
        await store_rows(ctx, params, rows, append=params.mode == "append", keep_rows=params.keep_rows)
        return Outputs(data=rows)
