"""Routes that say what this worker can do and what it is doing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from tradingflow.py_worker.parts import TheParts
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter()


class NodeTypes(BaseModel):
    """`node_types` holds, for each type, the JSON schema of its config and its handles with kind and arity."""

    node_types: list[dict[str, Any]]


class Stats(BaseModel):
    worker_id: str
    cycles_in_memory: int
    nodes_running: int = Field(description="Slots taken")
    nodes_waiting: int = Field(description="Released, but waiting for a slot")
    records_uncommitted: int
    signals_unconfirmed: int
    subscribed: bool


@router.get("/nodes/types", tags=["nodes"])
async def list_node_types(parts: TheParts) -> NodeTypes:
    """The catalog of node types: enough to draw forms and handles."""
    return NodeTypes(node_types=parts.catalog)


class WorkerView(BaseModel):
    """One live worker as it last said of itself; without a beat for 10 s it is not listed any more."""

    worker_id: str
    partitions: int = Field(description="Partition queues it is the owner of; RabbitMQ decides who really has them")
    slots: int = Field(description="Node tasks it runs at the same time")
    nodes_running: int
    nodes_waiting: int
    cycles_in_memory: int
    beat_at: datetime


@router.get("/worker/registry", tags=["operation"], responses=error_responses(401, 503))
async def worker_registry(user: CurrentUser, parts: TheParts) -> list[WorkerView]:
    """Every worker that shares the load, by id."""
    found = await parts.worker.membership.registry()
    return [WorkerView(worker_id=worker_id, **said) for worker_id, said in sorted(found.items())]


@router.get("/stats", tags=["operation"], responses=error_responses(401))
async def worker_stats(user: CurrentUser, parts: TheParts) -> Stats:
    """What this worker process has in hand."""
    worker = parts.worker
    return Stats(
        worker_id=worker.id,
        cycles_in_memory=worker.conductor.cycles,
        nodes_running=worker.slots.taken,
        nodes_waiting=worker.slots.waiting,
        records_uncommitted=len(worker.committer),
        signals_unconfirmed=len(worker.signaller),
        subscribed=worker.consumer.is_subscribed,
    )
