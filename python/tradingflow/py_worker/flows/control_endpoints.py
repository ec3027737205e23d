"""Routes that pause and resume a part of a flow: one node, or one connected part of the graph."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from tradingflow.core.errors import Conflict, NotFound
from tradingflow.db.models import Flow
from tradingflow.py_worker.engine.graph import Graph
from tradingflow.py_worker.flows import store
from tradingflow.py_worker.flows.endpoints import CONFLICT, OwnFlow, Service, flow_view
from tradingflow.py_worker.flows.schemas import ID_PATTERN, FlowView
from tradingflow.py_worker.parts import Parts, TheParts
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/flows", tags=["flows"], responses=error_responses(401, 404, 422))

NodeId = Annotated[str, Path(pattern=ID_PATTERN)]
Component = Annotated[int, Path(ge=0, le=1_000)]


@router.post("/{flow_id}/nodes/{node}/pause", responses=CONFLICT)
async def pause_node(flow: OwnFlow, node: NodeId, service: Service, parts: TheParts) -> FlowView:
    """This node starts in no cycle until it is resumed. What hangs on it waits; a task of it that runs ends."""
    await service.pause_nodes(flow, await _node(flow, node, parts))
    return flow_view(flow, await store.get_schedule(service.session, flow))


@router.post("/{flow_id}/nodes/{node}/resume", responses=CONFLICT)
async def resume_node(flow: OwnFlow, node: NodeId, service: Service, parts: TheParts) -> FlowView:
    """Go on where the pause held the node."""
    await service.resume_nodes(flow, await _node(flow, node, parts))
    return flow_view(flow, await store.get_schedule(service.session, flow))


@router.post("/{flow_id}/components/{component}/pause", responses=CONFLICT)
async def pause_component(flow: OwnFlow, component: Component, service: Service, parts: TheParts) -> FlowView:
    """No node of one connected part of the graph starts until it is resumed; the other parts go on."""
    await service.pause_nodes(flow, await _component(flow, component, parts))
    return flow_view(flow, await store.get_schedule(service.session, flow))


@router.post("/{flow_id}/components/{component}/resume", responses=CONFLICT)
async def resume_component(flow: OwnFlow, component: Component, service: Service, parts: TheParts) -> FlowView:
    """Go on where the pause held this part of the graph."""
    await service.resume_nodes(flow, await _component(flow, component, parts))
    return flow_view(flow, await store.get_schedule(service.session, flow))


async def _node(flow: Flow, node: str, parts: Parts) -> list[str]:
    if node not in (await current_graph(flow, parts)).index:
        raise NotFound("node", node)
    return [node]


async def _component(flow: Flow, component: int, parts: Parts) -> list[str]:
    graph = await current_graph(flow, parts)
    nodes = [node.id for node in graph.nodes if node.component == component]
    if not nodes:
        raise NotFound("component", component)
    return nodes


async def current_graph(flow: Flow, parts: Parts) -> Graph:
    """Raises Conflict when its node types are gone."""
    graph = await parts.worker.loader.graph(flow.id, flow.current_version)
    if graph is None:
        raise Conflict("version_not_runnable", f"version {flow.current_version} of the flow cannot be run any more")
    return graph
