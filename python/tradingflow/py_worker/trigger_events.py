"""What happened outside and starts cycles: recorded once, then served by the scheduler in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.db.models import Flow, TriggerEvent

TRIGGER_CHANGED = "the flow's trigger was changed"
TAKEN_BACK = "a reorg took the event back"


async def record_event(
    session: AsyncSession, flows: Sequence[UUID], kind: str, dedupe_key: str, payload: Any
) -> dict[UUID, int]:
    """Record an event for each flow, again where a reorg had taken it back; returns the ids of those recorded."""
    if not flows:
        return {}
    rows = [
        {"flow_pk": flow_pk, "kind": kind, "dedupe_key": dedupe_key, "payload": payload, "status": "pending"}
        for flow_pk in flows
    ]
    statement = insert(TriggerEvent).values(rows)
    statement = statement.on_conflict_do_update(
        index_elements=[TriggerEvent.flow_pk, TriggerEvent.dedupe_key],
        set_={"status": "pending", "reason": None},
        where=(TriggerEvent.status == "skipped") & (TriggerEvent.reason == TAKEN_BACK),
    )
    found = await session.execute(statement.returning(TriggerEvent.flow_pk, TriggerEvent.id))
    return {row.flow_pk: row.id for row in found}


async def find_event(session: AsyncSession, flow_pk: UUID, dedupe_key: str) -> TriggerEvent:
    statement = select(TriggerEvent).where(TriggerEvent.flow_pk == flow_pk, TriggerEvent.dedupe_key == dedupe_key)
    return (await session.scalars(statement)).one()


async def count_pending(session: AsyncSession, flow_pk: UUID) -> int:
    statement = select(func.count()).where(TriggerEvent.flow_pk == flow_pk, TriggerEvent.status == "pending")
    return await session.scalar(statement) or 0


async def skip_pending(session: AsyncSession, flow_pk: UUID, reason: str) -> None:
    """What has not started a cycle never will."""
    pending = update(TriggerEvent).where(TriggerEvent.flow_pk == flow_pk, TriggerEvent.status == "pending")
    await session.execute(pending.values(status="skipped", reason=reason))


async def take_back(session: AsyncSession, dedupe_key: str, flows: Sequence[UUID]) -> None:
    """A reorg took an event back: where it has not started a cycle yet, it does not."""
    pending = update(TriggerEvent).where(
        TriggerEvent.flow_pk.in_(flows), TriggerEvent.dedupe_key == dedupe_key, TriggerEvent.status == "pending"
    )
    await session.execute(pending.values(status="skipped", reason=TAKEN_BACK))


async def list_events(session: AsyncSession, flow: Flow, before: int | None, limit: int) -> Sequence[TriggerEvent]:
    """Newest first."""
    statement = select(TriggerEvent).where(TriggerEvent.flow_pk == flow.id)
    if before is not None:
        statement = statement.where(TriggerEvent.id < before)
    return (await session.scalars(statement.order_by(TriggerEvent.id.desc()).limit(limit))).all()
