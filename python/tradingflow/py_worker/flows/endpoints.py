"""Routes of flows: validate, execute, control, and what became of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from tradingflow.core.ids import node_task_id
from tradingflow.db.models import Cycle, Flow, FlowLog, NodeTask, Schedule
from tradingflow.py_worker.engine.graph import Graph, build_graph
from tradingflow.py_worker.engine.interval import parse_interval
from tradingflow.py_worker.flows import store
from tradingflow.py_worker.flows.cursor import decode_cursor, encode_cursor
from tradingflow.py_worker.flows.schemas import (
    MAX_BIGINT,
    Cursor,
    CycleDetail,
    CycleNumber,
    CycleView,
    FlowDetail,
    FlowId,
    FlowRequest,
    FlowStatus,
    FlowView,
    Limit,
    LogView,
    NodeTaskView,
    Page,
    Validation,
)
from tradingflow.py_worker.flows.service import FlowService
from tradingflow.py_worker.parts import Parts, TheParts, Transaction
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import ERROR_RESPONSES

router = APIRouter(prefix="/flows", tags=["flows"], responses={s: ERROR_RESPONSES[s] for s in (401, 404, 422)})
CONFLICT: dict[int | str, dict[str, Any]] = {409: dict(ERROR_RESPONSES[409])}


def _service(session: Transaction, user: CurrentUser, parts: TheParts) -> FlowService:
    return FlowService(session, user.user_id, parts.clock.now(), parts.settings.cycle_partitions)


async def _own_flow(flow_id: FlowId, session: Transaction, user: CurrentUser) -> Flow:
    return await store.get_flow(session, user.user_id, flow_id)


Service = Annotated[FlowService, Depends(_service, scope="function")]
OwnFlow = Annotated[Flow, Depends(_own_flow, scope="function")]


@router.post("/validate")
async def validate_flow(request: FlowRequest, user: CurrentUser, parts: TheParts) -> Validation:
    """Judge a flow without storing it: 422 names every node and handle at fault."""
    graph = _judge(request, parts)
    edges = sum(len(node.outgoing) for node in graph.nodes)
    return Validation(valid=True, nodes=len(graph.nodes), edges=edges, components=graph.components)


@router.post("/execute")
async def execute_flow(request: FlowRequest, service: Service, parts: TheParts) -> FlowView:
    """Store a flow and let it run from now on. The same `flow_id` again: a new version if the graph changed."""
    _judge(request, parts)
    flow, schedule = await service.execute(request)
    await service.session.commit()
    parts.scheduler.wake()
    return _view(flow, schedule)


@router.get("")
async def list_flows(
    session: Transaction, user: CurrentUser, limit: Limit = 100, cursor: Cursor = None
) -> Page[FlowView]:
    """Your flows, by id."""
    rows = await store.list_flows(session, user.user_id, decode_cursor(cursor, str), limit + 1)
    page = [_view(flow, schedule) for flow, schedule in rows[:limit]]
    return Page(items=page, next_cursor=encode_cursor(page[-1].flow_id) if len(rows) > limit else None)


@router.get("/{flow_id}")
async def get_flow(flow: OwnFlow, session: Transaction) -> FlowDetail:
    """A flow with the graph of its current version."""
    schedule = await store.get_schedule(session, flow)
    version = await store.get_version(session, flow, flow.current_version)
    return FlowDetail(**_view(flow, schedule).model_dump(), flow_json=version.graph)


@router.get("/{flow_id}/status")
async def flow_status(flow: OwnFlow, session: Transaction) -> FlowStatus:
    """Whether it runs, when it fires next, and how its last cycle went."""
    schedule = await store.get_schedule(session, flow)
    latest = await store.list_cycles(session, flow, None, 1)
    return FlowStatus(
        flow_id=flow.flow_id,
        status=flow.status,
        version=flow.current_version,
        next_fire_at=schedule.next_fire_at,
        open_cycles=await store.count_open_cycles(session, flow),
        cycles=schedule.next_cycle,
        last_cycle=_cycle(flow, latest[0]) if latest else None,
    )


@router.post("/{flow_id}/start")
async def start_flow(flow: OwnFlow, service: Service, parts: TheParts) -> FlowView:
    """Let a stopped flow run again from now on."""
    schedule = await service.start(flow)
    await service.session.commit()
    parts.scheduler.wake()
    return _view(flow, schedule)


@router.post("/{flow_id}/stop")
async def stop_flow(flow: OwnFlow, service: Service) -> FlowView:
    """No cycle starts any more; running nodes are cancelled and marked `terminated` within a second."""
    return _view(flow, await service.stop(flow))


@router.post("/{flow_id}/pause", responses=CONFLICT)
async def pause_flow(flow: OwnFlow, service: Service) -> FlowView:
    """No cycle and no node starts any more until it is resumed; nodes that run come to their end."""
    return _view(flow, await service.pause(flow))


@router.post("/{flow_id}/resume", responses=CONFLICT)
async def resume_flow(flow: OwnFlow, service: Service) -> FlowView:
    """Go on exactly where the pause held the flow."""
    return _view(flow, await service.resume(flow))


@router.get("/{flow_id}/cycles")
async def list_cycles(
    flow: OwnFlow, session: Transaction, limit: Limit = 100, cursor: Cursor = None
) -> Page[CycleView]:
    """Newest first."""
    rows = await store.list_cycles(session, flow, decode_cursor(cursor, int), limit + 1)
    page = [_cycle(flow, row) for row in rows[:limit]]
    return Page(items=page, next_cursor=encode_cursor(page[-1].cycle) if len(rows) > limit else None)


@router.get("/{flow_id}/cycles/{cycle}")
async def get_cycle(flow: OwnFlow, cycle: CycleNumber, session: Transaction) -> CycleDetail:
    """A cycle with its node tasks. A task that has not begun is not listed."""
    found = await store.get_cycle(session, flow, cycle)
    tasks = await store.node_tasks(session, flow, cycle)
    return CycleDetail(**_cycle(flow, found).model_dump(), node_tasks=[_task(flow, task) for task in tasks])


@router.get("/{flow_id}/logs")
async def flow_logs(
    flow: OwnFlow,
    session: Transaction,
    cycle: Annotated[int | None, Query(ge=0, le=MAX_BIGINT)] = None,
    node_id: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_:-]{1,100}$")] = None,
    log_level: Annotated[str | None, Query(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = None,
    log_source: Annotated[str | None, Query(pattern="^(node|system)$")] = None,
    limit: Limit = 100,
    offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
    cursor: Cursor = None,
) -> Page[LogView]:
    """What nodes and engine said, newest first."""
    rows = await store.list_logs(
        session,
        flow,
        cycle=cycle,
        node_id=node_id,
        log_level=log_level,
        log_source=log_source,
        before=decode_cursor(cursor, int),
        after=None,
        offset=offset,
        limit=limit + 1,
    )
    page = [_log(flow, row) for row in rows[:limit]]
    return Page(items=page, next_cursor=encode_cursor(page[-1].id) if len(rows) > limit else None)


def _judge(request: FlowRequest, parts: Parts) -> Graph:
    """Raises InvalidInput; returns the graph of a flow that may run."""
    parse_interval(request.cycle_interval)
    return build_graph(request.flow_json, parts.specs)


def _view(flow: Flow, schedule: Schedule) -> FlowView:
    return FlowView(
        flow_id=flow.flow_id,
        status=flow.status,
        mode=flow.mode,
        version=flow.current_version,
        cycle_interval=schedule.cycle_interval,
        overlap=schedule.overlap,
        misfire=schedule.misfire,
        next_fire_at=schedule.next_fire_at,
        created_at=flow.created_at,
    )


def _cycle(flow: Flow, cycle: Cycle) -> CycleView:
    return CycleView(
        flow_id=flow.flow_id,
        cycle=cycle.cycle,
        version=cycle.version,
        trigger=cycle.trigger,
        status=cycle.status,
        fire_time=cycle.fire_time,
        started_at=cycle.started_at,
        finished_at=cycle.finished_at,
    )


def _task(flow: Flow, task: NodeTask) -> NodeTaskView:
    return NodeTaskView(
        id=node_task_id(flow.flow_id, task.cycle, task.node_id),
        node_id=task.node_id,
        status=task.status,
        attempt=task.attempt,
        outputs=task.outputs,
        error=task.error,
        worker_id=task.worker_id,
        started_at=task.started_at,
        finished_at=task.finished_at,
    )


def _log(flow: Flow, line: FlowLog) -> LogView:
    return LogView(
        id=line.id,
        flow_id=flow.flow_id,
        cycle=line.cycle,
        node_id=line.node_id,
        log_level=line.log_level,
        log_source=line.log_source,
        message=line.message,
        created_at=line.created_at,
    )
