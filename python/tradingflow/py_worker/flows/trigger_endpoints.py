"""Routes of triggers: the webhook itself, its token, and what arrived."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Annotated, Any
from uuid import uuid4

import msgspec
from fastapi import APIRouter, Header, Path, Request
from pydantic import BaseModel, Field
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from tradingflow.core.errors import Conflict, InvalidInput, NotFound, TooManyRequests
from tradingflow.db.models import Flow, FlowHook
from tradingflow.py_worker.flows import store
from tradingflow.py_worker.flows.cursor import decode_cursor, encode_cursor
from tradingflow.py_worker.flows.endpoints import CONFLICT, OwnFlow
from tradingflow.py_worker.flows.schemas import Cursor, Limit, Page, storable
from tradingflow.py_worker.parts import TheParts, Transaction
from tradingflow.py_worker.trigger_events import MAX_PENDING, count_pending, find_event, list_events, record_event
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/flows", tags=["triggers"], responses=error_responses(401, 404, 422))
hooks_router = APIRouter(prefix="/hooks", tags=["triggers"], responses=error_responses(404, 409, 422, 429))

TOKEN_BYTES = 32
MAX_PAYLOAD_BYTES = 256_000
RETRY_AFTER_S = 5
BODY = {"requestBody": {"content": {"application/json": {"schema": {}}, "text/plain": {"schema": {"type": "string"}}}}}


class Hook(BaseModel):
    """`token` is told once. Whoever has it can start cycles of this flow, and nothing else."""

    token: str
    path: str = Field(description="POST to this path of the Python Worker")


class TriggerEventView(BaseModel):
    """`pending` until the flow gets round to it, then `started` with the cycle, or `skipped` with the reason."""

    id: int
    kind: str
    status: str
    reason: str | None
    cycle: int | None
    payload: Any
    received_at: datetime


class Accepted(BaseModel):
    """What became of a call so far: the same `Idempotency-Key` again gives the same event."""

    event_id: int
    status: str
    cycle: int | None


@router.post("/{flow_id}/hook", responses=CONFLICT)
async def renew_hook(flow: OwnFlow, session: Transaction) -> Hook:
    """A new webhook token for a flow with trigger `webhook`; the one before stops working."""
    schedule = await store.get_schedule(session, flow, lock=True)
    if schedule.trigger["type"] != "webhook":
        raise Conflict("not_a_webhook_flow", f"the flow's trigger is {schedule.trigger['type']}, not webhook")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    values = {"flow_pk": flow.id, "token_hash": _hash(token)}
    statement = insert(FlowHook).values(values)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[FlowHook.flow_pk], set_={"token_hash": statement.excluded.token_hash}
        )
    )
    return Hook(token=token, path=f"/hooks/{token}")


@router.delete("/{flow_id}/hook", status_code=204)
async def revoke_hook(flow: OwnFlow, session: Transaction) -> None:
    """The webhook's token stops working."""
    await session.execute(delete(FlowHook).where(FlowHook.flow_pk == flow.id))


@router.get("/{flow_id}/trigger-events")
async def trigger_events(
    flow: OwnFlow, session: Transaction, limit: Limit = 100, cursor: Cursor = None
) -> Page[TriggerEventView]:
    """Calls of the webhook, or events of the contract, newest first."""
    rows = await list_events(session, flow, decode_cursor(cursor, int), limit + 1)
    page = [TriggerEventView.model_validate(row, from_attributes=True) for row in rows[:limit]]
    return Page(items=page, next_cursor=encode_cursor(page[-1].id) if len(rows) > limit else None)


@hooks_router.post("/{token}", status_code=202, openapi_extra=BODY)
async def call_hook(
    request: Request,
    token: Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{20,100}$")],
    session: Transaction,
    parts: TheParts,
    idempotency_key: Annotated[
        str | None, Header(pattern=r"^[\x21-\x7e]{1,200}$", description="The same key again starts nothing new")
    ] = None,
) -> Accepted:
    """Start a cycle of the flow whose token this is. The body, JSON or text, is what `trigger_node` gives.

    Answered once the call is stored: from then on it starts one cycle, or is skipped as the flow's `overlap` says.
    """
    payload = _payload(await request.body())
    flow = await session.scalar(
        select(Flow).join(FlowHook, FlowHook.flow_pk == Flow.id).where(FlowHook.token_hash == _hash(token))
    )
    if flow is None:
        raise NotFound("hook", "with this token")
    parts.worker.require_room(flow.user_id)
    schedule = await store.get_schedule(session, flow)
    if flow.status == "stopped" or schedule.trigger["type"] != "webhook":
        raise Conflict("flow_not_running", "the flow of this webhook does not run, or waits for something else")
    key = idempotency_key or uuid4().hex
    if await count_pending(session, flow.id) >= MAX_PENDING:
        raise TooManyRequests("hook_backlog", f"{MAX_PENDING} calls wait for this flow already", RETRY_AFTER_S)
    await record_event(session, [flow.id], "webhook", f"webhook:{key}", payload)
    event = await find_event(session, flow.id, f"webhook:{key}")
    await session.commit()
    parts.scheduler.wake()
    return Accepted(event_id=event.id, status=event.status, cycle=event.cycle)


def _payload(body: bytes) -> Any:
    """JSON where it is JSON, else text; nothing for an empty body."""
    if len(body) > MAX_PAYLOAD_BYTES:
        raise InvalidInput("payload_too_large", f"a webhook's body has at most {MAX_PAYLOAD_BYTES} bytes")
    try:
        payload = msgspec.json.decode(body) if body else None
    except (msgspec.MsgspecError, RecursionError):
        payload = body.decode(errors="replace")
    try:
        return storable(payload)
    except ValueError as error:
        raise InvalidInput("invalid_payload", f"the body {error}") from error


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
