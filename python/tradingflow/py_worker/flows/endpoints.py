"""Routes of flows: validate, execute, control, and what became of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from tradingflow.core.errors import Conflict, InvalidInput
from tradingflow.core.ids import node_task_id
from tradingflow.db.models import Cycle, Flow, FlowLog, NodeTask, Schedule
from tradingflow.py_worker.engine.graph import Graph, build_graph
from tradingflow.py_worker.flows import store
from tradingflow.py_worker.flows.cursor import decode_cursor, encode_cursor
from tradingflow.py_worker.flows.schemas import (
    ID_PATTERN,
    MAX_BIGINT,
    ComprehensiveStatus,
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
    VersionView,
)
from tradingflow.py_worker.flows.service import FlowService
from tradingflow.py_worker.flows.triggers import judge_trigger
from tradingflow.py_worker.parts import Parts, TheParts, Transaction
from tradingflow.py_worker.preflight.arming import require_armable, require_stored_armable
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/flows", tags=["flows"], responses=error_responses(401, 404, 422))
CONFLICT = error_responses(409)


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


@router.post("/execute", responses=error_responses(409, 429))
async def execute_flow(request: FlowRequest, service: Service, parts: TheParts) -> FlowView:
    """Store a flow and let it run from now on. The same `flow_id` again: a new version if the graph changed.

    409, and nothing is stored, when its trades would certainly revert: see POST /flows/{flow_id}/preflight.
    """
    parts.worker.require_room(service.user_id)
    graph = _judge(request, parts)
    await require_armable(service.user_id, request, graph, parts)
    flow, schedule = await service.execute(request)
    await parts.contract_triggers.follow(service.session, schedule.trigger)
    await service.session.commit()
    parts.scheduler.wake()
    return flow_view(flow, schedule)


@router.get("")
async def list_flows(
    session: Transaction, user: CurrentUser, limit: Limit = 100, cursor: Cursor = None
) -> Page[FlowView]:
    """Your flows, by id."""
    rows = await store.list_flows(session, user.user_id, decode_cursor(cursor, str), limit + 1)
    page = [flow_view(flow, schedule) for flow, schedule in rows[:limit]]
    return Page(items=page, next_cursor=encode_cursor(page[-1].flow_id) if len(rows) > limit else None)


@router.get("/{flow_id}")
async def get_flow(flow: OwnFlow, session: Transaction) -> FlowDetail:
    """A flow with the graph of its current version."""
    schedule = await store.get_schedule(session, flow)
    version = await store.get_version(session, flow, flow.current_version)
    return FlowDetail(**flow_view(flow, schedule).model_dump(), flow_json=version.graph)


@router.put("/{flow_id}", responses=error_responses(409, 429))
async def put_flow(flow_id: FlowId, request: FlowRequest, service: Service, parts: TheParts) -> FlowView:
    """Store a new version without starting the flow. Running cycles finish on their version.

    409, and nothing is stored, when the flow runs already and trades of the new version would certainly revert.
    """
    if request.flow_id != flow_id:
        raise InvalidInput("flow_id_mismatch", "the flow_id of the body is not the one of the path")
    graph = _judge(request, parts)
    async with parts.sessions() as session:
        known = await store.find_flow(session, service.user_id, flow_id)
    runs = known is not None and known.status != "stopped"
    if runs:
        await require_armable(service.user_id, request, graph, parts)
    flow, schedule = await service.revise(request)
    if flow.status != "stopped" and not runs:
        raise Conflict("flow_changed", "the flow was started meanwhile; ask again")
    await parts.contract_triggers.follow(service.session, schedule.trigger)
    return flow_view(flow, schedule)


@router.delete("/{flow_id}", status_code=204, responses=CONFLICT)
async def delete_flow(flow: OwnFlow, service: Service) -> None:
    """Delete a stopped flow with its versions, cycles and logs. One that traded is kept: 409."""
    await service.delete(flow)


@router.get("/{flow_id}/versions")
async def list_versions(
    flow: OwnFlow, session: Transaction, limit: Limit = 100, cursor: Cursor = None
) -> Page[VersionView]:
    """Every graph the flow ever had, newest first. Large graphs make a page shorter than `limit`; `next_cursor` says
    whether there are more."""
    rows, more = await store.list_versions(session, flow, decode_cursor(cursor, int), limit)
    page = [VersionView(version=row.version, created_at=row.created_at, flow_json=row.graph) for row in rows]
    return Page(items=page, next_cursor=encode_cursor(page[-1].version) if more else None)


@router.get("/{flow_id}/comprehensive-status")
async def comprehensive_status(flow: OwnFlow, session: Transaction) -> ComprehensiveStatus:
    """The status with every node task of the last cycle."""
    status = await flow_status(flow, session)
    tasks = await store.node_tasks(session, flow, status.last_cycle.cycle) if status.last_cycle else []
    return ComprehensiveStatus(**status.model_dump(), node_tasks=[_task(flow, task) for task in tasks])


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
        last_cycle=cycle_view(flow, latest[0]) if latest else None,
    )


@router.post("/{flow_id}/start", responses=error_responses(409, 429))
async def start_flow(flow_id: FlowId, service: Service, parts: TheParts) -> FlowView:
    """Let a stopped flow run again from now on; 409 when its trades would certainly revert."""
    judged = await require_stored_armable(service.user_id, flow_id, parts)
    flow = await store.get_flow(service.session, service.user_id, flow_id)
    schedule = await service.start(flow)
    await service.session.refresh(flow, ["current_version", "mode"])
    if (flow.current_version, flow.mode) != judged:
        raise Conflict("flow_changed", "the flow was changed while its trades were judged; ask again")
    await parts.contract_triggers.follow(service.session, schedule.trigger)
    await service.session.commit()
    parts.scheduler.wake()
    return flow_view(flow, schedule)


@router.post("/{flow_id}/stop")
async def stop_flow(flow: OwnFlow, service: Service) -> FlowView:
    """No cycle starts any more; running nodes are cancelled and marked `terminated` within a second."""
    return flow_view(flow, await service.stop(flow))


@router.post("/{flow_id}/pause", responses=CONFLICT)
async def pause_flow(flow: OwnFlow, service: Service) -> FlowView:
    """No cycle and no node starts any more until it is resumed; nodes that run come to their end."""
    return flow_view(flow, await service.pause(flow))


@router.post("/{flow_id}/resume", responses=CONFLICT)
async def resume_flow(flow: OwnFlow, service: Service) -> FlowView:
    """Go on exactly where the pause held the flow."""
    return flow_view(flow, await service.resume(flow))


@router.get("/{flow_id}/cycles")
async def list_cycles(
    flow: OwnFlow, session: Transaction, limit: Limit = 100, cursor: Cursor = None
) -> Page[CycleView]:
    """Newest first."""
    rows = await store.list_cycles(session, flow, decode_cursor(cursor, int), limit + 1)
    page = [cycle_view(flow, row) for row in rows[:limit]]
    return Page(items=page, next_cursor=encode_cursor(page[-1].cycle) if len(rows) > limit else None)


@router.get("/{flow_id}/cycles/{cycle}")
async def get_cycle(flow: OwnFlow, cycle: CycleNumber, session: Transaction) -> CycleDetail:
    """A cycle with its node tasks. A task that has not begun is not listed."""
    found = await store.get_cycle(session, flow, cycle)
    tasks = await store.node_tasks(session, flow, cycle)
    return CycleDetail(**cycle_view(flow, found).model_dump(), node_tasks=[_task(flow, task) for task in tasks])


@router.get("/logs/{log_id}")
async def get_log(
    log_id: Annotated[int, Path(ge=1, le=MAX_BIGINT)], user: CurrentUser, session: Transaction
) -> LogView:
    """One line of the log of one of your flows."""
    flow, line = await store.get_log(session, user.user_id, log_id)
    return _log(flow, line)


@router.get("/{flow_id}/cycles/{cycle}/nodes/{node}/logs")
async def node_logs(
    flow: OwnFlow,
    cycle: CycleNumber,
    node: Annotated[str, Path(pattern=ID_PATTERN)],
    session: Transaction,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[LogView]:
    """What one node said in one cycle, or the engine (`system`), newest first."""
    await store.get_cycle(session, flow, cycle)
    of_engine = node == "system"
    filters = store.LogFilters(
        cycle=cycle, node_id=None if of_engine else node, log_source="system" if of_engine else None
    )
    return await _log_page(session, flow, filters, cursor, limit)


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
    order_by: Annotated[str, Query(pattern="^(id|created_at)$", description="Both are the order of writing")] = "id",
    order_direction: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
    cursor: Cursor = None,
) -> Page[LogView]:
    """What nodes and engine said, newest first unless asked otherwise."""
    filters = store.LogFilters(
        cycle=cycle,
        node_id=node_id,
        log_level=log_level,
        log_source=log_source,
        offset=offset,
        ascending=order_direction == "asc",
    )
    return await _log_page(session, flow, filters, cursor, limit)


async def _log_page(
    session: Transaction, flow: Flow, filters: store.LogFilters, cursor: str | None, limit: int
) -> Page[LogView]:
    rows = await store.list_logs(session, flow, filters, decode_cursor(cursor, int), limit + 1)
    page = [_log(flow, row) for row in rows[:limit]]
    return Page(items=page, next_cursor=encode_cursor(page[-1].id) if len(rows) > limit else None)


def _judge(request: FlowRequest, parts: Parts) -> Graph:
    """Raises InvalidInput; returns the graph of a flow that may run."""
    judge_trigger(request.cycle_interval, request.trigger)
    return build_graph(request.flow_json, parts.specs)


def flow_view(flow: Flow, schedule: Schedule) -> FlowView:
    return FlowView(
        flow_id=flow.flow_id,
        status=flow.status,
        mode=flow.mode,
        shadow_bound_bps=flow.shadow_bound_bps,
        version=flow.current_version,
        cycle_interval=schedule.cycle_interval,
        trigger=schedule.trigger,
        paused_nodes=flow.paused_nodes,
        overlap=schedule.overlap,
        misfire=schedule.misfire,
        next_fire_at=schedule.next_fire_at,
        created_at=flow.created_at,
    )


def cycle_view(flow: Flow, cycle: Cycle) -> CycleView:
    return CycleView(
        flow_id=flow.flow_id,
        cycle=cycle.cycle,
        version=cycle.version,
        trigger=cycle.trigger,
        mode=cycle.mode,
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
