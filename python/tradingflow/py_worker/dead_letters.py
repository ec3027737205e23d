"""Dead letters kept where their flow's owner can see them and send them again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.errors import Conflict, NotFound
from tradingflow.core.ids import cycle_partition
from tradingflow.core.storable import storable_text
from tradingflow.db.engine import SessionFactory
from tradingflow.db.failures import passing_told
from tradingflow.db.models.flow import DeadLetter, Flow
from tradingflow.db.outbox import OutgoingMessage, enqueue
from tradingflow.messaging.dead_letters import BuriedMessage
from tradingflow.messaging.messages import decode_cycle_messages
from tradingflow.messaging.topology import CYCLES, partition_queue
from tradingflow.py_worker.cycle_starter import OUTBOX_LANE


class DeadLetterKeeper:
    """Stores each dead letter once, however often it is delivered."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions

    async def keep(self, message: BuriedMessage) -> None:
        """Raises DependencyUnavailable when PostgreSQL is away."""
        flow_pk, cycle = _place(message.body)
        values = {
            "flow_pk": flow_pk,
            "cycle": cycle,
            "message_id": message.message_id,
            "routing_key": message.routing_key,
            "body": message.body,
            "reason": storable_text(message.reason),
            "status": "dead",
        }
        with passing_told():
            async with self._sessions.begin() as session:
                await session.execute(insert(DeadLetter).values(values).on_conflict_do_nothing())


async def list_dead_letters(session: AsyncSession, flow: Flow, before: int | None, limit: int) -> Sequence[DeadLetter]:
    """Newest first."""
    statement = select(DeadLetter).where(DeadLetter.flow_pk == flow.id)
    if before is not None:
        statement = statement.where(DeadLetter.id < before)
    return (await session.scalars(statement.order_by(DeadLetter.id.desc()).limit(limit))).all()


async def replay(session: AsyncSession, flow: Flow, letter_id: int, now: datetime, partitions: int) -> DeadLetter:
    """Send a dead letter again, once. Raises NotFound, or Conflict when it was sent already."""
    statement = select(DeadLetter).where(DeadLetter.flow_pk == flow.id, DeadLetter.id == letter_id).with_for_update()
    letter = await session.scalar(statement)
    if letter is None or letter.flow_pk is None or letter.cycle is None:
        raise NotFound("dead letter", letter_id)
    if letter.status != "dead":
        raise Conflict("already_replayed", f"dead letter {letter_id} was replayed at {letter.replayed_at}")
    letter.status, letter.replayed_at = "replayed", now
    routing_key = partition_queue(cycle_partition(letter.flow_pk, letter.cycle, partitions))
    message = OutgoingMessage(CYCLES, routing_key, f"replay:{letter.id}", letter.body)
    await enqueue(session, OUTBOX_LANE, [message])
    return letter


def _place(body: bytes) -> tuple[UUID | None, int | None]:
    """Flow and cycle of the first message in the body; nothing for a body that is no cycle message."""
    try:
        first = decode_cycle_messages(body)[0]
    except (msgspec.MsgspecError, IndexError):
        return None, None
    return first.flow_pk, first.cycle
