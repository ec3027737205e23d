"""What the flow routes take and give."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tradingflow.core.storable import storable_text
from tradingflow.py_worker.flows.triggers import Trigger
from tradingflow.py_worker.kit.fields import CycleInterval

Item = TypeVar("Item")

ID_PATTERN = r"^[A-Za-z0-9_:-]{1,100}$"
MAX_BIGINT = 2**63 - 1

FlowId = Annotated[str, Path(pattern=ID_PATTERN, description="The owner's name for the flow", examples=["my_flow"])]
CycleNumber = Annotated[int, Path(ge=0, le=MAX_BIGINT, examples=[0])]
Limit = Annotated[int, Query(ge=1, le=500, description="Items a page")]
Cursor = Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before")]
Overlap = Literal["skip", "queue", "replace"]
Misfire = Literal["skip", "once", "all"]


MAX_DEPTH = 60


def storable(value: Any, depth: int = 0) -> Any:
    """What jsonb can hold and an answer can show; raises ValueError for anything else."""
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_DEPTH}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds NaN or an infinity")
    if isinstance(value, str) and storable_text(value) != value:
        raise ValueError("holds NUL or half of a surrogate pair")
    if isinstance(value, dict):
        for name, held in value.items():
            storable(name, depth + 1)
            storable(held, depth + 1)
    elif isinstance(value, list):
        for held in value:
            storable(held, depth + 1)
    return value


StorableJson = Annotated[dict[str, Any], AfterValidator(storable)]


class FlowRequest(BaseModel):
    """A flow as front ends send it. Nodes and edges are judged by the engine, which names node and handle."""

    model_config = ConfigDict(
        extra="forbid",  # a misspelt `overlap` must not silently become its default on a flow that trades
        json_schema_extra={
            "examples": [
                {
                    "flow_id": "my_flow",
                    "cycle_interval": "5m",
                    "flow_json": {
                        "nodes": [
                            {
                                "id": "price",
                                "type": "dex_price_node",
                                "config": {"chain_id": 1, "pool": "0x88e6A0c2dDD26FEEb64F039a2c41296FcB3f5640"},
                            },
                            {"id": "cheap", "type": "condition_node", "config": {"expression": "price < 1900.0"}},
                        ],
                        "edges": [
                            {
                                "source": "price",
                                "source_handle": "price",
                                "target": "cheap",
                                "target_handle": "price",
                            }
                        ],
                    },
                }
            ],
        },
    )

    flow_id: str = Field(pattern=ID_PATTERN)
    cycle_interval: CycleInterval | None = Field(
        None,
        description="Seconds, `10s 5m 1h 1d`, `0` for once, or a 5-field cron with a time zone; left out with a "
        "trigger that knows no time",
    )
    trigger: Trigger | None = Field(None, description="What starts cycles; left out: cycle_interval does")
    flow_json: StorableJson = Field(
        description="`nodes`: {id, type, config}, types as in GET /nodes/types; `edges`: {source, source_handle, "
        "target, target_handle}, also in camel case. The visual editor's format is taken as it is saved"
    )
    mode: Literal["live", "paper"] = Field(
        "live",
        description="`live` trades on chain; `paper` against vaults that exist in PostgreSQL only, with live markets "
        "and the same rules. Counts from the next cycle on",
    )
    shadow_bound_bps: int | None = Field(
        None,
        ge=0,
        le=10_000,
        description="Also run each live cycle on paper, and raise an alarm when a fill differs by more hundredths of a "
        "percent, or a decision at all; null: do not",
    )
    overlap: Overlap = Field("skip", description="What a fire time does while the cycle before is still open")
    misfire: Misfire = Field("once", description="What becomes of fire times missed while no worker was there")


class Page(BaseModel, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last one")


class Validation(BaseModel):
    """A valid flow in figures."""

    valid: bool
    nodes: int
    edges: int
    components: int


class FlowView(BaseModel):
    flow_id: str
    status: str
    mode: str
    shadow_bound_bps: int | None
    version: int
    cycle_interval: str | None
    trigger: dict[str, Any]
    paused_nodes: list[str]
    overlap: str
    misfire: str
    next_fire_at: datetime | None
    created_at: datetime


class FlowDetail(FlowView):
    flow_json: dict[str, Any]


class CycleView(BaseModel):
    flow_id: str
    cycle: int
    version: int
    trigger: str
    mode: str
    status: str
    fire_time: datetime
    started_at: datetime
    finished_at: datetime | None


class NodeTaskView(BaseModel):
    """`id` is `{flow_id}_{cycle}_{node_id}`; `outputs` maps the handles that were taken to their values."""

    id: str
    node_id: str
    status: str
    attempt: int
    outputs: dict[str, Any] | None
    error: dict[str, Any] | None
    worker_id: str | None
    started_at: datetime | None
    finished_at: datetime | None


class CycleDetail(CycleView):
    node_tasks: list[NodeTaskView]


class FlowStatus(BaseModel):
    flow_id: str
    status: str
    version: int
    next_fire_at: datetime | None
    open_cycles: int
    cycles: int = Field(description="Cycles ever started")
    last_cycle: CycleView | None


class ComprehensiveStatus(FlowStatus):
    node_tasks: list[NodeTaskView]


class VersionView(BaseModel):
    version: int
    created_at: datetime
    flow_json: dict[str, Any]


class LogView(BaseModel):
    id: int
    flow_id: str
    cycle: int
    node_id: str | None
    log_level: str
    log_source: str
    message: str
    created_at: datetime
