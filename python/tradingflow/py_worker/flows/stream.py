"""`GET /flows/{id}/stream`: what happens in a flow, as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import and_, select, tuple_
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect
from starlette.types import Message, Send

from tradingflow.core.errors import Unauthenticated
from tradingflow.db.models import Cycle, Flow, NodeTask
from tradingflow.py_worker.flows import store
from tradingflow.py_worker.flows.schemas import FlowId
from tradingflow.py_worker.parts import Parts, TheParts
from tradingflow.web.auth import CurrentUser, authenticated
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/flows", tags=["flows"], responses=error_responses(401, 404, 422, 429))

POLL_S = 0.25
KEEP_ALIVE_POLLS = 60
AUTHENTICATE_POLLS = 8
# How many of a flow's newest cycles are watched for changes.
WATCHED_CYCLES = 20
# How long a client may leave what it was sent unread, the connection being full.
MAX_SEND_S = 60.0

Place = tuple[int, str]
"""(cycle, node); the node is empty for the cycle itself."""
Event = tuple[str, dict[str, Any]]
"""Name and data. Text only when it is its turn: many events may tell the same large value."""


async def _counted(user: CurrentUser, parts: TheParts) -> AsyncIterator[None]:
    """Has its place from before the answer begins until it is over, however it ends."""
    with parts.streams.place(user.user_id):
        yield


class EventStream(StreamingResponse):
    """Ends when the client reads no more: nothing else would be noticed while an event cannot be sent."""

    media_type = "text/event-stream"

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(MAX_SEND_S):
                    await send(message)
            except TimeoutError as error:
                raise ClientDisconnect from error

        with suppress(ClientDisconnect):
            await super().stream_response(send_in_time)


@router.get(
    "/{flow_id}/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
    dependencies=[Depends(_counted, scope="request")],
)
async def stream_flow(flow_id: FlowId, user: CurrentUser, parts: TheParts, request: Request) -> StreamingResponse:
    """Status changes from now on, as JSON: events `cycle` and `node`, and a `signal` for each value that travels.

    A client that reconnects sees the present state with its first changes; nothing is replayed. The stream ends when
    the flow is deleted, the worker stops, the access token has expired or its session has ended, or the client reads no
    more.
    """
    async with parts.sessions() as session:
        flow = await store.get_flow(session, user.user_id, flow_id)
    is_stopping: Callable[[], bool] = getattr(request.app.state, "is_stopping", lambda: False)

    async def may_watch() -> bool:
        try:
            await authenticated(request)
        except Unauthenticated:
            return False
        return True

    return EventStream(flow_events(parts, flow, is_stopping, may_watch))


async def flow_events(
    parts: Parts, flow: Flow, is_stopping: Callable[[], bool], may_watch: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    """The text of the stream, event by event; `may_watch` is asked every few seconds whether it may go on."""
    seen = await _statuses(parts, flow)
    yield ": watching\n\n"
    quiet = polls = 0
    while not is_stopping():
        await asyncio.sleep(POLL_S)
        polls += 1
        try:
            if polls % AUTHENTICATE_POLLS == 0 and not await may_watch():
                return
            now = await _statuses(parts, flow)
            if not now and await _is_gone(parts, flow):
                return
            changed = [place for place, status in now.items() if seen.get(place) != status]
            told = await _tell(parts, flow, changed, now)
        except (SQLAlchemyError, OSError):
            continue  # the database is away: what changes meanwhile is told when it is back
        for event in told:
            yield _text(event)
        seen = now
        quiet = 0 if told else quiet + 1
        if quiet >= KEEP_ALIVE_POLLS:
            quiet = 0
            yield ": still here\n\n"


async def _statuses(parts: Parts, flow: Flow) -> dict[Place, str]:
    """Of the newest cycles and their node tasks, tasks before their cycle."""
    async with parts.sessions() as session:
        newest = select(Cycle.cycle, Cycle.status).where(Cycle.flow_pk == flow.id)
        cycles = (await session.execute(newest.order_by(Cycle.cycle.desc()).limit(WATCHED_CYCLES))).all()
        tasks = await session.execute(
            select(NodeTask.cycle, NodeTask.node_id, NodeTask.status)
            .where(and_(NodeTask.flow_pk == flow.id, NodeTask.cycle.in_([number for number, _ in cycles])))
            .order_by(NodeTask.cycle, NodeTask.finished_at.nulls_last())
        )
        found: dict[Place, str] = {(cycle, node_id): status for cycle, node_id, status in tasks}
    return found | {(number, ""): status for number, status in reversed(cycles)}


async def _is_gone(parts: Parts, flow: Flow) -> bool:
    async with parts.sessions() as session:
        return await session.get(Flow, flow.id) is None


async def _tell(parts: Parts, flow: Flow, changed: Sequence[Place], now: dict[Place, str]) -> list[Event]:
    tasks = await _tasks(parts, flow, [place for place in changed if place[1]])
    versions = await _versions(parts, flow, {cycle for cycle, _ in tasks})
    told: list[Event] = []
    for place in changed:
        cycle, node_id = place
        if not node_id:
            told.append(("cycle", {"cycle": cycle, "status": now[place]}))
        elif (task := tasks.get(place)) is not None:
            data = {"cycle": cycle, "node_id": node_id, "status": task.status}
            told.append(("node", {**data, "outputs": task.outputs, "error": task.error}))
            told += await _signals(parts, flow, versions.get(cycle, 0), task)
    return told


async def _tasks(parts: Parts, flow: Flow, places: Sequence[Place]) -> dict[Place, NodeTask]:
    if not places:
        return {}
    keys = [(flow.id, cycle, node_id) for cycle, node_id in places]
    statement = select(NodeTask).where(tuple_(NodeTask.flow_pk, NodeTask.cycle, NodeTask.node_id).in_(keys))
    async with parts.sessions() as session:
        return {(task.cycle, task.node_id): task for task in await session.scalars(statement)}


async def _versions(parts: Parts, flow: Flow, cycles: set[int]) -> dict[int, int]:
    if not cycles:
        return {}
    statement = select(Cycle.cycle, Cycle.version).where(Cycle.flow_pk == flow.id, Cycle.cycle.in_(cycles))
    async with parts.sessions() as session:
        return {row.cycle: row.version for row in await session.execute(statement)}


async def _signals(parts: Parts, flow: Flow, version: int, task: NodeTask) -> list[Event]:
    """The values an ended task sent over the edges of its version."""
    graph = await parts.worker.loader.graph(flow.id, version) if task.outputs else None
    if graph is None or task.outputs is None or task.node_id not in graph.index:
        return []
    return [
        (
            "signal",
            {
                "cycle": task.cycle,
                "source_node": task.node_id,
                "source_handle": edge.source_handle,
                "target_node": graph.nodes[edge.target].id,
                "target_handle": edge.target_handle,
                "value": task.outputs[edge.source_handle],
            },
        )
        for edge in graph.nodes[graph.index[task.node_id]].outgoing
        if edge.source_handle in task.outputs
    ]


def _text(event: Event) -> str:
    name, data = event
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
