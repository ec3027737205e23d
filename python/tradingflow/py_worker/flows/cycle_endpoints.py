"""Routes of cycles: start, rerun, run a part, stop, and what travelled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tradingflow.core.errors import Conflict, InvalidInput, NotFound
from tradingflow.core.ids import node_task_id
from tradingflow.db.models import Flow
from tradingflow.db.reruns import rerun_of_cycle
from tradingflow.py_worker.control import terminate_tasks
from tradingflow.py_worker.dead_letters import list_dead_letters, replay
from tradingflow.py_worker.engine.graph import Graph
from tradingflow.py_worker.flows import store
from tradingflow.py_worker.flows.cursor import decode_cursor, encode_cursor
from tradingflow.py_worker.flows.endpoints import CONFLICT, OwnFlow, cycle_view
from tradingflow.py_worker.flows.parts_of_cycle import Scope, completed_outputs, plan_part, start_cycle, traded_outputs
from tradingflow.py_worker.flows.schemas import (
    ID_PATTERN,
    MAX_BIGINT,
    Cursor,
    CycleNumber,
    CycleView,
    Limit,
    Page,
    storable,
)
from tradingflow.py_worker.parts import Parts, TheParts, Transaction
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/flows", tags=["cycles"], responses=error_responses(401, 404, 422))

ENDED_BADLY = ("failed", "terminated")


class PartialRun(BaseModel):
    """`downstream` and `upstream` include the node; `component` is the connected part of the graph it is in.

    Recorded outputs come from `cycle`, else the latest cycle;
    `inputs` gives outputs of nodes by node and handle, and wins over what is recorded."""

    model_config = ConfigDict(extra="forbid")

    scope: Scope
    node_id: str = Field(pattern=ID_PATTERN)
    cycle: int | None = Field(None, ge=0, le=MAX_BIGINT)
    inputs: Annotated[dict[str, dict[str, Any]], AfterValidator(storable)] = Field(default_factory=dict)


class CycleRequest(BaseModel):
    """`cycle` is the number the caller expects; another one is a 409. `payload` is what `trigger_node` gives."""

    model_config = ConfigDict(extra="forbid")

    cycle: int | None = Field(None, ge=0, le=MAX_BIGINT)
    payload: Annotated[Any, AfterValidator(storable)] = None


class SignalView(BaseModel):
    """One value that travelled on one edge."""

    source_node: str
    source_handle: str
    target_node: str
    target_handle: str
    value: Any
    sent_at: datetime | None


class DeadLetterView(BaseModel):
    """A message about a cycle of this flow that no worker could handle."""

    id: int
    cycle: int | None
    reason: str
    status: str
    created_at: datetime
    replayed_at: datetime | None


@router.post("/{flow_id}/cycles", responses={**CONFLICT, **error_responses(429)})
async def run_cycle(
    flow: OwnFlow,
    session: Transaction,
    parts: TheParts,
    request: Annotated[CycleRequest | None, Body()] = None,
) -> CycleView:
    """Start the next cycle now."""
    parts.worker.require_room(flow.user_id)
    schedule = await store.get_schedule(session, flow, lock=True)
    if request and request.cycle is not None and request.cycle != schedule.next_cycle:
        raise Conflict("unexpected_cycle", f"the flow's next cycle is {schedule.next_cycle}, not {request.cycle}")
    require_not_paused(flow)
    cycle = await start_cycle(
        session,
        flow,
        trigger="manual",
        version=flow.current_version,
        now=parts.clock.now(),
        partitions=parts.settings.cycle_partitions,
        trigger_data=request.payload if request else None,
    )
    return cycle_view(flow, cycle)


@router.post("/{flow_id}/cycles/{cycle}/rerun", responses=error_responses(409, 503))
async def rerun_cycle(flow: OwnFlow, cycle: CycleNumber, session: Transaction, parts: TheParts) -> CycleView:
    """Run a failed or terminated cycle again from where it failed, as a new cycle of the same version.

    What completed keeps its outputs and is not run again. A trade that was made is not made twice: the outputs of its
    node are its receipt, also when the node did not complete. 409 while a trade of the cycle may still be mined.
    Trades that failed are made anew; therefore a cycle can be rerun once, and then its rerun if that failed too.
    """
    await store.get_schedule(session, flow, lock=True)
    old = await store.get_cycle(session, flow, cycle)
    if old.status not in ENDED_BADLY:
        raise Conflict("not_rerunnable", f"only a failed or terminated cycle can be rerun; this one is {old.status}")
    if (rerun := await rerun_of_cycle(session, flow.id, cycle)) is not None:
        raise Conflict(
            "already_rerun", f"cycle {cycle} was rerun as cycle {rerun}; rerun that one if it did not complete"
        )
    require_not_paused(flow)
    graph = await _graph(flow, old.version, parts)
    given = await completed_outputs(session, flow, cycle)
    given |= await traded_outputs(session, old, graph, parts.types, parts.around.markets)
    new = await start_cycle(
        session,
        flow,
        trigger="rerun",
        rerun_of=cycle,
        trigger_data=old.trigger_data,
        version=old.version,
        now=parts.clock.now(),
        partitions=parts.settings.cycle_partitions,
        given=given,
    )
    return cycle_view(flow, new)


@router.post("/{flow_id}/partial-run", responses=CONFLICT)
async def run_part(flow: OwnFlow, request: PartialRun, session: Transaction, parts: TheParts) -> CycleView:
    """Run a part of the flow's current version with recorded or given outputs of the rest, as a new cycle.

    Every node of the part runs again: one that trades makes another trade.
    """
    graph = await _graph(flow, flow.current_version, parts)
    recorded: dict[str, dict[str, Any]] = {}
    trigger_data: Any = None
    latest = await store.list_cycles(session, flow, None, 1)
    number = request.cycle if request.cycle is not None else latest[0].cycle if latest else None
    if number is not None:
        trigger_data = (await store.get_cycle(session, flow, number)).trigger_data
        recorded = await completed_outputs(session, flow, number)
    if unknown := set(request.inputs) - set(graph.index):
        raise InvalidInput("unknown_node", f"the flow has no node {min(unknown)!r}")
    given, left_out = plan_part(graph, request.scope, request.node_id, recorded, request.inputs)
    require_not_paused(flow)
    cycle = await start_cycle(
        session,
        flow,
        trigger="partial",
        trigger_data=trigger_data,
        version=flow.current_version,
        now=parts.clock.now(),
        partitions=parts.settings.cycle_partitions,
        given=given,
        left_out=left_out,
    )
    return cycle_view(flow, cycle)


@router.post("/{flow_id}/cycles/{cycle}/components/{component}/stop", responses=CONFLICT)
async def stop_component(
    flow: OwnFlow,
    cycle: CycleNumber,
    component: Annotated[int, Path(ge=0, le=1_000)],
    session: Transaction,
    parts: TheParts,
) -> CycleView:
    """Terminate what has not ended of one connected part of the graph in one cycle; the rest goes on."""
    found = await store.get_cycle(session, flow, cycle, lock=True)
    graph = await _graph(flow, found.version, parts)
    nodes = [node.id for node in graph.nodes if node.component == component]
    if not nodes:
        raise NotFound("component", component)
    if found.status != "running":
        raise Conflict("cycle_ended", f"the cycle has ended already; it is {found.status}")
    await terminate_tasks(session, flow.id, [cycle], "the component was stopped", parts.clock.now(), nodes)
    return cycle_view(flow, found)


@router.get("/{flow_id}/cycles/{cycle}/signals", response_model=list[SignalView])
async def cycle_signals(flow: OwnFlow, cycle: CycleNumber, session: Transaction, parts: TheParts) -> StreamingResponse:
    """Every value that travelled in a cycle."""
    found = await store.get_cycle(session, flow, cycle)
    graph = await _graph(flow, found.version, parts)
    tasks = {task.node_id: task for task in await store.node_tasks(session, flow, cycle)}
    signals = [
        SignalView(
            source_node=node.id,
            source_handle=edge.source_handle,
            target_node=graph.nodes[edge.target].id,
            target_handle=edge.target_handle,
            value=outputs[edge.source_handle],
            sent_at=tasks[node.id].finished_at,
        )
        for node in graph.nodes
        if node.id in tasks and (outputs := tasks[node.id].outputs)
        for edge in node.outgoing
        if edge.source_handle in outputs
    ]
    return StreamingResponse(_list_text(signals), media_type="application/json")


def _list_text(views: Iterable[BaseModel]) -> Iterator[str]:
    """A JSON list, view by view: many signals may have the same large value, which is in memory once until then."""
    separator = "["
    for view in views:
        yield separator + view.model_dump_json()
        separator = ","
    yield "[]" if separator == "[" else "]"


@router.get("/{flow_id}/dead-letters")
async def flow_dead_letters(
    flow: OwnFlow, session: Transaction, limit: Limit = 100, cursor: Cursor = None
) -> Page[DeadLetterView]:
    """Messages of this flow no worker could handle, newest first."""
    rows = await list_dead_letters(session, flow, decode_cursor(cursor, int), limit + 1)
    page = [DeadLetterView.model_validate(row, from_attributes=True) for row in rows[:limit]]
    return Page(items=page, next_cursor=encode_cursor(page[-1].id) if len(rows) > limit else None)


@router.post("/{flow_id}/dead-letters/{letter}/replay", responses=CONFLICT)
async def replay_dead_letter(
    flow: OwnFlow, letter: Annotated[int, Path(ge=1, le=MAX_BIGINT)], session: Transaction, parts: TheParts
) -> DeadLetterView:
    """Send a dead letter to the workers again."""
    found = await replay(session, flow, letter, parts.clock.now(), parts.settings.cycle_partitions)
    return DeadLetterView.model_validate(found, from_attributes=True)


class TaskStatus(BaseModel):
    """A node task found by its id `{flow_id}_{cycle}_{node_id}`."""

    id: str
    flow_id: str
    cycle: int
    node_id: str
    status: str


nodes_router = APIRouter(prefix="/nodes", tags=["nodes"], responses=error_responses(401, 404, 422))
worker_router = APIRouter(prefix="/worker", tags=["nodes"], responses=error_responses(401))
MAX_LISTED = 1_000
TaskId = Annotated[str, Path(max_length=300, pattern=r"^[A-Za-z0-9_:-]+$")]


@nodes_router.get("")
async def running_node_tasks(user: CurrentUser, session: Transaction) -> list[TaskStatus]:
    """Your node tasks that run now, on any worker. A task shows up when it has run for a quarter of a second."""
    rows = await store.running_tasks(session, user.user_id, MAX_LISTED)
    return [_running(flow.flow_id, task.cycle, task.node_id) for flow, task in rows]


@worker_router.get("/nodes")
async def node_tasks_here(user: CurrentUser, parts: TheParts) -> list[TaskStatus]:
    """Your node tasks this worker process is running now."""
    mine = ((live, run) for live, run in parts.worker.conductor.running() if live.user_id == user.user_id)
    return [_running(live.flow_id, live.key[1], live.graph.nodes[run.index].id) for live, run in mine]


def _running(flow_id: str, cycle: int, node_id: str) -> TaskStatus:
    task_id = node_task_id(flow_id, cycle, node_id)
    return TaskStatus(id=task_id, flow_id=flow_id, cycle=cycle, node_id=node_id, status="running")


@nodes_router.get("/{task}/status")
async def node_task_status(task: TaskId, user: CurrentUser, session: Transaction, parts: TheParts) -> TaskStatus:
    """Status of a node task; `pending` when its cycle is open and it has not begun."""
    return await _find_task(task, user, session, parts)


@nodes_router.post("/{task}/stop", responses=CONFLICT)
async def stop_node_task(task: TaskId, user: CurrentUser, session: Transaction, parts: TheParts) -> TaskStatus:
    """Terminate one node in one open cycle; what hangs on it is skipped."""
    found = await _find_task(task, user, session, parts)
    flow = await store.get_flow(session, user.user_id, found.flow_id)
    cycle = await store.get_cycle(session, flow, found.cycle, lock=True)
    if cycle.status != "running" or found.status not in ("pending", "running"):
        raise Conflict("task_ended", f"the node task has ended already; it is {found.status}")
    await terminate_tasks(session, flow.id, [found.cycle], "the node was stopped", parts.clock.now(), [found.node_id])
    return found.model_copy(update={"status": "terminated"})


async def _find_task(task: str, user: CurrentUser, session: Transaction, parts: Parts) -> TaskStatus:
    """An id may be cut into flow, cycle and node in several ways; at most one of them exists."""
    words = task.split("_")
    for position in range(1, len(words) - 1):
        if not words[position].isdigit() or len(words[position]) > 18:
            continue
        flow_id, node_id = "_".join(words[:position]), "_".join(words[position + 1 :])
        flow = await store.find_flow(session, user.user_id, flow_id)
        found = None if flow is None else await _task_status(flow, int(words[position]), node_id, session, parts)
        if found is not None:
            return found
    raise NotFound("node task", task)


async def _task_status(flow: Flow, number: int, node_id: str, session: Transaction, parts: Parts) -> TaskStatus | None:
    try:
        cycle = await store.get_cycle(session, flow, number)
    except NotFound:
        return None
    graph = await _graph(flow, cycle.version, parts)
    if node_id not in graph.index:
        return None
    known = {task.node_id: task.status for task in await store.node_tasks(session, flow, number)}
    return TaskStatus(
        id=node_task_id(flow.flow_id, number, node_id),
        flow_id=flow.flow_id,
        cycle=number,
        node_id=node_id,
        status=known.get(node_id, "pending"),
    )


async def _graph(flow: Flow, version: int, parts: Parts) -> Graph:
    graph = await parts.worker.loader.graph(flow.id, version)
    if graph is None:
        raise Conflict("version_not_runnable", f"version {version} of the flow cannot be run any more")
    return graph


def require_not_paused(flow: Flow) -> None:
    if flow.status == "paused":
        raise Conflict("flow_paused", "the flow is paused; resume it first")
