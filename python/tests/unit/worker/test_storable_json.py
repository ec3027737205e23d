"""A flow that is accepted can be stored and read again; what cannot is refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tradingflow.py_worker.flows.schemas import MAX_DEPTH, FlowRequest


def _nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "a\x00b", "\ud800", {"\x00": 1}, _nested(MAX_DEPTH + 1)],
    ids=["nan", "infinity", "nul", "surrogate", "nul in a name", "deep"],
)
def test_json_that_cannot_be_kept_is_refused_wherever_it_stands(value: Any) -> None:
    with pytest.raises(ValidationError):
        FlowRequest.model_validate({"flow_id": "f", "cycle_interval": 0, "flow_json": {"nodes": [{"position": value}]}})


def test_ordinary_json_is_taken() -> None:
    FlowRequest.model_validate(
        {"flow_id": "f", "cycle_interval": 0, "flow_json": {"nodes": [{"position": {"x": 1.5}, "title": "Preis 价格"}]}}
    )


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="overlapp"):
        FlowRequest.model_validate({"flow_id": "f", "cycle_interval": 0, "flow_json": {}, "overlapp": "queue"})
