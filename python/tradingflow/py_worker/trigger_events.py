"""What happened outside and starts cycles: recorded once, then served by the scheduler in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, any_, case, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.db.models import Flow, TriggerEvent

STOPPED = "the flow was stopped"
TRIGGER_CHANGED = "the flow's trigger was changed"
TAKEN_BACK = "a reorg took the event back"
# What a flow has not got round to is a backlog its owner must see, not a queue without end.
MAX_PENDING = 1_000
# Of one transaction: each flow's row holds the payload.
MOST_FLOWS = 1_000
MOST_BYTES = 16_000_000


async def record_event(session: AsyncSession, flows: Sequence[UUID], kind: str, dedupe_key: str, payload: Any) -> None:
    """Record an event for each flow, again where a reorg had taken it back; as skipped where MAX_PENDING wait already.

    The payload is sent once, however many the flows are; see `portions` for how many there may be.
    """
    columns = TriggerEvent.__table__.c
    flow_pk = func.unnest(literal(flows, ARRAY(Uuid()))).column_valued("asked")
    waiting = select(TriggerEvent.id).where(TriggerEvent.flow_pk == flow_pk, TriggerEvent.status == "pending")
    is_full = waiting.offset(MAX_PENDING - 1).exists()
    row = {
        columns.flow_pk: flow_pk,
        columns.kind: literal(kind),
        columns.dedupe_key: literal(dedupe_key),
        columns.payload: literal(payload, columns.payload.type),
        columns.status: case((is_full, "skipped"), else_="pending"),
        columns.reason: case((is_full, f"{MAX_PENDING} events wait for this flow already")),
    }
    statement = insert(TriggerEvent).from_select(list(row), select(*row.values()))
    statement = statement.on_conflict_do_update(
        index_elements=[TriggerEvent.flow_pk, TriggerEvent.dedupe_key],
        set_={"status": statement.excluded.status, "reason": statement.excluded.reason},
        where=(TriggerEvent.status == "skipped") & (TriggerEvent.reason == TAKEN_BACK),
    )
    await session.execute(statement)


def portions(flows: Sequence[UUID], payload_bytes: int) -> Iterator[Sequence[UUID]]:
    """The flows in as many parts as it takes for each to be recorded in a moment."""
    size = max(1, min(MOST_FLOWS, MOST_BYTES // payload_bytes))
    return (flows[start : start + size] for start in range(0, len(flows), size))


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
        TriggerEvent.flow_pk == any_(literal(flows, ARRAY(Uuid()))),
        TriggerEvent.dedupe_key == dedupe_key,
        TriggerEvent.status == "pending",
    )
    await session.execute(pending.values(status="skipped", reason=TAKEN_BACK))


async def list_events(session: AsyncSession, flow: Flow, before: int | None, limit: int) -> Sequence[TriggerEvent]:
    """Newest first."""
    statement = select(TriggerEvent).where(TriggerEvent.flow_pk == flow.id)
    if before is not None:
        statement = statement.where(TriggerEvent.id < before)
    return (await session.scalars(statement.order_by(TriggerEvent.id.desc()).limit(limit))).all()
