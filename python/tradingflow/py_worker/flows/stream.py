"""`GET /flows/{id}/stream`: what happens in a flow, as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Cycle, Flow, NodeTask
from tradingflow.py_worker.flows import store
from tradingflow.py_worker.flows.schemas import FlowId
from tradingflow.py_worker.parts import TheParts
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/flows", tags=["flows"], responses=error_responses(401, 404, 422))

POLL_S = 0.25
KEEP_ALIVE_POLLS = 60
# How many of a flow's newest cycles are watched for changes.
WATCHED_CYCLES = 20


@router.get(
    "/{flow_id}/stream", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}}
)
async def stream_flow(flow_id: FlowId, user: CurrentUser, parts: TheParts) -> StreamingResponse:
    """Events `cycle` and `node` with status changes as JSON (`node` with the outputs it sent), from now on."""
    async with parts.sessions() as session:
        flow = await store.get_flow(session, user.user_id, flow_id)
    return StreamingResponse(_events(parts.sessions, flow), media_type="text/event-stream")


async def _events(sessions: SessionFactory, flow: Flow) -> AsyncIterator[str]:
    seen = await _snapshot(sessions, flow)
    yield ": watching\n\n"
    quiet = 0
    while True:
        await asyncio.sleep(POLL_S)
        now = await _snapshot(sessions, flow)
        changed = [data for key, data in now.items() if seen.get(key, {}).get("status") != data["status"]]
        for data in changed:
            event = "node" if "node_id" in data else "cycle"
            yield f"event: {event}\ndata: {json.dumps(data)}\n\n"
        seen = now
        quiet = 0 if changed else quiet + 1
        if quiet >= KEEP_ALIVE_POLLS:
            quiet = 0
            yield ": still here\n\n"


async def _snapshot(sessions: SessionFactory, flow: Flow) -> dict[tuple[int, str], dict[str, Any]]:
    """Cycles and node tasks of the newest cycles, each by (cycle, node or nothing), tasks before their cycle's end."""
    async with sessions() as session:
        newest = select(Cycle.cycle, Cycle.status).where(Cycle.flow_pk == flow.id)
        cycles = (await session.execute(newest.order_by(Cycle.cycle.desc()).limit(WATCHED_CYCLES))).all()
        numbers = [number for number, _ in cycles]
        tasks = await session.scalars(select(NodeTask).where(NodeTask.flow_pk == flow.id, NodeTask.cycle.in_(numbers)))
        found: dict[tuple[int, str], dict[str, Any]] = {
            (task.cycle, task.node_id): {
                "cycle": task.cycle,
                "node_id": task.node_id,
                "status": task.status,
                "outputs": task.outputs,
                "error": task.error,
            }
            for task in tasks
        }
    return found | {(number, ""): {"cycle": number, "status": status} for number, status in reversed(cycles)}
