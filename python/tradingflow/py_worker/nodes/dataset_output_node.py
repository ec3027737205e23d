"""Writes rows to a dataset: a table of the user's, a CSV or JSON file, a Google sheet."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tradingflow.py_worker.kit import Json, Node, NodeContext, NodeInputs, NodeOutputs
from tradingflow.py_worker.kit.fields import KeepRows
from tradingflow.py_worker.kit.rows import MAX_ROWS, rows_of
from tradingflow.py_worker.kit.storage import Place, store_rows


class WritingPlace(Place):
    """A place with how to write there."""

    keep_rows: KeepRows | None = Field(
        default=None, description="table: how many of the newest rows stay; default: all"
    )

    def check_writing(self, mode: str) -> None:
        """Raises ValueError for what a place cannot do."""
        if mode == "append" and self.storage in ("csv", "json"):
            raise ValueError(
                f"a {self.storage} file at a URL is only written whole; append to a table and download it as a file"
            )
        if self.keep_rows is not None and self.storage != "table":
            raise ValueError("keep_rows is for storage table")


class Params(WritingPlace):
    mode: Literal["append", "write"] = Field(
        default="append", description="`append` rows to those that are there, or `write` over them"
    )

    @model_validator(mode="after")
    def _can_write(self) -> Self:
        self.check_writing(self.mode)
        return self


class Inputs(NodeInputs):
    data: Json = Field(description=f"An object is a row, a list of them rows (at most {MAX_ROWS}); candles, too")


class Outputs(NodeOutputs):
    data: list[dict[str, Json]] = Field(description="The rows written")
    rows: int | None = Field(description="Rows now in the dataset")


class DatasetOutputNode(Node[Params, Inputs, Outputs]):
    type = "dataset_output_node"
    title = "Write dataset"
    description = "Writes rows to a dataset of yours, to a CSV or JSON file, or to a Google sheet; once each cycle."
    category = "data"
    example: ClassVar[dict[str, Any]] = {"name": "signals", "mode": "append", "keep_rows": 10_000}
    example_inputs: ClassVar[dict[str, Any]] = {"data": {"side": "buy", "price": "1990"}}

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        rows = rows_of(inputs.data)
        held = await store_rows(ctx, params, rows, append=params.mode == "append", keep_rows=params.keep_rows)
        return Outputs(data=rows, rows=held)
