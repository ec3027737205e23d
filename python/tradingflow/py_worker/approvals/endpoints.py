"""Routes of questions flows put to you: see them, answer them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from tradingflow.core.errors import Conflict
from tradingflow.db.models import Approval
from tradingflow.py_worker.approvals import store
from tradingflow.py_worker.approvals.store import Asked
from tradingflow.py_worker.flows.cursor import decode_cursor, encode_cursor
from tradingflow.py_worker.flows.schemas import Cursor, Limit, Page
from tradingflow.py_worker.parts import TheParts, Transaction
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/approvals", tags=["approvals"], responses=error_responses(401, 403, 404, 422))


class ApprovalView(BaseModel):
    """`withdrawn`: the cycle or the node ended, so nobody waits for an answer any more."""

    id: UUID
    flow_id: str
    cycle: int
    node_id: str
    question: str
    details: Any
    status: Literal["pending", "approved", "rejected", "timed_out", "withdrawn"]
    on_timeout: Literal["approve", "reject"] = Field(description="The answer when nobody gives one")
    comment: str | None
    created_at: datetime
    expires_at: datetime
    answered_at: datetime | None


class Answer(BaseModel):
    """Yes or no."""

    model_config = ConfigDict(extra="forbid", strict=True)

    approved: bool
    comment: str | None = Field(default=None, max_length=1_000, pattern=r"^[^\x00]*$")


@router.get("")
async def list_approvals(
    session: Transaction,
    user: CurrentUser,
    status: Annotated[Literal["pending", "all"], Query(description="Only those that wait for you, or all")] = "pending",
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ApprovalView]:
    """Questions your flows put to you, newest first."""
    after = store.parse_place(decode_cursor(cursor, str))
    found = await store.list_asked(session, user.user_id, after, limit + 1, pending=status == "pending")
    page = found[:limit]
    following = encode_cursor(store.place_of(page[-1].approval)) if len(found) > limit else None
    return Page(items=[_view(asked) for asked in page], next_cursor=following)


@router.get("/{approval_id}")
async def get_approval(approval_id: UUID, session: Transaction, user: CurrentUser) -> ApprovalView:
    """One question."""
    return _view(await store.get_asked(session, user.user_id, approval_id))


@router.post("/{approval_id}", responses=error_responses(409))
async def answer_approval(
    approval_id: UUID, answer: Answer, session: Transaction, user: CurrentUser, parts: TheParts
) -> ApprovalView:
    """Answer a question, once; the same answer again changes nothing, another one is a 409."""
    asked = await store.get_asked(session, user.user_id, approval_id, lock=True)
    approval, given = asked.approval, "approved" if answer.approved else "rejected"
    if approval.status == given:
        return _view(asked)
    _require_open(asked, parts.clock.now())
    approval.status, approval.comment, approval.answered_at = given, answer.comment, parts.clock.now()
    return _view(asked)


def _require_open(asked: Asked, now: datetime) -> None:
    approval: Approval = asked.approval
    if approval.status != "pending":
        raise Conflict("already_answered", f"the question is answered already; it is {approval.status}")
    if asked.is_withdrawn:
        raise Conflict("approval_withdrawn", "the cycle or the node that asked has ended")
    if approval.expires_at <= now:
        raise Conflict("approval_expired", f"the time to answer was over at {approval.expires_at.isoformat()}")


def _view(asked: Asked) -> ApprovalView:
    values = {name: getattr(asked.approval, name) for name in ApprovalView.model_fields if name != "flow_id"}
    if asked.is_withdrawn and asked.approval.status == "pending":
        values["status"] = "withdrawn"
    return ApprovalView(flow_id=asked.flow_id, **values)
