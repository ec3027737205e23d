"""`POST /nodes/execute`: one node by itself, fed with what other nodes of the flow sent in a cycle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from tradingflow.core.errors import Conflict, InvalidInput
from tradingflow.core.ids import node_task_id
from tradingflow.db.models import Flow
from tradingflow.py_worker.engine.graph import build_graph
from tradingflow.py_worker.engine.spec import NodeSpec
from tradingflow.py_worker.flows import store
from tradingflow.py_worker.flows.cycle_endpoints import TaskStatus, require_not_paused
from tradingflow.py_worker.flows.endpoints import CONFLICT, Service
from tradingflow.py_worker.flows.parts_of_cycle import completed_outputs, start_cycle
from tradingflow.py_worker.flows.schemas import ID_PATTERN, MAX_BIGINT, StorableJson
from tradingflow.py_worker.parts import TheParts
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/nodes", tags=["nodes"], responses=error_responses(401, 422, 429))

Outputs = Mapping[str, Mapping[str, Any]]


class EdgeEnd(BaseModel):
    """An edge of the flow the node belongs to; handles may be written in camel case."""

    source: str = Field(pattern=ID_PATTERN)
    source_handle: str = Field(max_length=100, validation_alias=AliasChoices("source_handle", "sourceHandle"))
    target: str = Field(pattern=ID_PATTERN)
    target_handle: str = Field(max_length=100, validation_alias=AliasChoices("target_handle", "targetHandle"))


class NodeRequest(BaseModel):
    """`cycle` is the flow's next number, or a cycle that ran: then what it recorded feeds the `input_edges`.

    `component_id` is taken for the sake of clients that number components themselves; one node is one component.
    """

    model_config = ConfigDict(extra="forbid")

    flow_id: str = Field(pattern=ID_PATTERN)
    component_id: int | str | None = None
    cycle: int = Field(0, ge=0, le=MAX_BIGINT)
    node_id: str = Field(pattern=ID_PATTERN)
    node_type: str = Field(min_length=1, max_length=100)
    config: StorableJson = Field(default_factory=dict)
    input_edges: list[EdgeEnd] = Field(default_factory=list, max_length=2_000)
    output_edges: list[EdgeEnd] = Field(default_factory=list, max_length=2_000)


@router.post("/execute", responses=CONFLICT)
async def execute_node(request: NodeRequest, service: Service, parts: TheParts) -> TaskStatus:
    """Run one node now, as a cycle of its own; a flow that does not exist yet is made for it, stopped.

    Its signals go nowhere by themselves: read them from the node task, or feed a cycle with `partial-run`.
    """
    parts.worker.require_room(service.user_id)
    _judge_ends(request)
    flow = await store.find_flow(service.session, service.user_id, request.flow_id, lock=True)
    if flow is not None:
        require_not_paused(flow)
    recorded = await _recorded(request, flow, service)
    graph = _graph_of(request, recorded, parts.specs.get(request.node_type))
    build_graph(graph, parts.specs)
    flow = flow or await service.create_by_hand(request.flow_id)
    version = await service.add_version(flow, graph)
    flow.current_version = flow.current_version or version
    cycle = await start_cycle(
        service.session,
        flow,
        trigger="node",
        version=version,
        now=service.now,
        partitions=parts.settings.cycle_partitions,
    )
    task_id = node_task_id(flow.flow_id, cycle.cycle, request.node_id)
    return TaskStatus(id=task_id, flow_id=flow.flow_id, cycle=cycle.cycle, node_id=request.node_id, status="pending")


def _judge_ends(request: NodeRequest) -> None:
    if any(edge.target != request.node_id for edge in request.input_edges):
        raise InvalidInput("invalid_edge", f"every input edge ends at node {request.node_id!r}")
    if any(edge.source != request.node_id for edge in request.output_edges):
        raise InvalidInput("invalid_edge", f"every output edge begins at node {request.node_id!r}")


async def _recorded(request: NodeRequest, flow: Flow | None, service: Service) -> Outputs:
    """What the nodes of the cycle named sent. Raises Conflict for a cycle that is further ahead than the next."""
    next_cycle = 0 if flow is None else (await store.get_schedule(service.session, flow, lock=True)).next_cycle
    if request.cycle > next_cycle:
        raise Conflict("unexpected_cycle", f"the flow's next cycle is {next_cycle}, not {request.cycle}")
    if flow is None or request.cycle == next_cycle:
        return {}
    return await completed_outputs(service.session, flow, request.cycle)


def _graph_of(request: NodeRequest, recorded: Outputs, spec: NodeSpec | None) -> dict[str, Any]:
    """A flow of one node whose inputs are literals. Of several values on a handle that takes one, the first."""
    inputs: dict[str, Any] = {}
    for edge in request.input_edges:
        sent = recorded.get(edge.source, {})
        if edge.source_handle not in sent:
            raise InvalidInput(
                "no_recorded_output",
                f"node {edge.source!r} sent nothing from handle {edge.source_handle!r} in cycle {request.cycle}",
            )
        port = spec.input(edge.target_handle) if spec else None
        if port is not None and port.many:
            inputs.setdefault(edge.target_handle, []).append(sent[edge.source_handle])
        else:
            inputs.setdefault(edge.target_handle, sent[edge.source_handle])
    node = {"id": request.node_id, "type": request.node_type, "config": request.config, "inputs": inputs}
    return {"nodes": [node], "edges": []}
