"""Rows of a dataset: a table of the user's, a CSV or JSON file, a Google sheet."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from tradingflow.py_worker.kit import Json, Node, NodeContext, NodeInputs, NodeOutputs
from tradingflow.py_worker.kit.storage import LIMIT, Place, read_rows


class Params(Place):
    limit: int = LIMIT
    missing_ok: bool = Field(default=False, description="Give no rows, instead of failing, where there is no dataset")


class Inputs(NodeInputs):
    trigger: Json = Field(default=None, description="Anything; the dataset is read when it arrives")


class Outputs(NodeOutputs):
    data: list[dict[str, Json]] = Field(description="Rows by column name, oldest first")


class DatasetInputNode(Node[Params, Inputs, Outputs]):
    type = "dataset_input_node"
    title = "Read dataset"
    description = "Reads rows of a dataset of yours, of a CSV or JSON file, or of a Google sheet."
    category = "data"
    example: ClassVar[dict[str, Any]] = {"name": "signals", "limit": 100, "missing_ok": True}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        return Outputs(data=await read_rows(ctx, params, params.limit, missing_ok=params.missing_ok))
