"""Approvals as their owner sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.errors import InvalidInput, NotFound
from tradingflow.db.models import Approval, Cycle, Flow, NodeTask

WAITING = ("pending", "running")


@dataclass(frozen=True)
class Asked:
    """`is_withdrawn`: the cycle or the node that asked has ended without an answer."""

    approval: Approval
    flow_id: str
    is_withdrawn: bool


Place = tuple[datetime, UUID]


def place_of(approval: Approval) -> str:
    """Where a list goes on after this one."""
    return f"{approval.created_at.isoformat()} {approval.id}"


def parse_place(text: str | None) -> Place | None:
    """Raises InvalidInput for what `place_of` did not write."""
    if text is None:
        return None
    try:
        moment, identity = text.split(" ")
        place = datetime.fromisoformat(moment), UUID(identity)
    except ValueError as error:
        raise InvalidInput("invalid_cursor", "the cursor is not one this list handed out") from error
    if place[0].tzinfo is None:
        raise InvalidInput("invalid_cursor", "the cursor is not one this list handed out")
    return place


def _asked() -> Select[*tuple[Any, ...]]:
    return (
        select(Approval, Flow.flow_id, Cycle.status, NodeTask.status)
        .join(Flow, Flow.id == Approval.flow_pk)
        .join(Cycle, and_(Cycle.flow_pk == Approval.flow_pk, Cycle.cycle == Approval.cycle))
        .outerjoin(
            NodeTask,
            and_(
                NodeTask.flow_pk == Approval.flow_pk,
                NodeTask.cycle == Approval.cycle,
                NodeTask.node_id == Approval.node_id,
            ),
        )
    )


def _read(row: Any) -> Asked:
    approval, flow_id, cycle_status, task_status = row
    ended = cycle_status != "running" or (task_status is not None and task_status not in WAITING)
    return Asked(approval, flow_id, ended)


async def list_asked(
    session: AsyncSession, owner: UUID, after: Place | None, limit: int, *, pending: bool
) -> list[Asked]:
    """Newest first, those after the place of the last one seen."""
    chosen = _asked().where(Approval.user_id == owner)
    if pending:
        task_waits = or_(NodeTask.status.is_(None), NodeTask.status.in_(WAITING))
        chosen = chosen.where(Approval.status == "pending", Cycle.status == "running", task_waits)
    if after is not None:
        earlier = and_(Approval.created_at == after[0], Approval.id < after[1])
        chosen = chosen.where(or_(Approval.created_at < after[0], earlier))
    newest_first = chosen.order_by(Approval.created_at.desc(), Approval.id.desc()).limit(limit)
    return [_read(row) for row in await session.execute(newest_first)]


async def get_asked(session: AsyncSession, owner: UUID, identity: UUID, *, lock: bool = False) -> Asked:
    """Raises NotFound, also for somebody else's."""
    chosen = _asked().where(Approval.id == identity, Approval.user_id == owner)
    if lock:
        chosen = chosen.with_for_update(of=Approval)
    row = (await session.execute(chosen)).one_or_none()
    if row is None:
        raise NotFound("approval", identity)
    return _read(row)
