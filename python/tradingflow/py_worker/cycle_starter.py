"""Opens cycles: the row and its start message, in the caller's transaction. Two callers cannot open the same one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.ids import cycle_partition
from tradingflow.db.models import Cycle, Flow
from tradingflow.db.outbox import OutgoingMessage, enqueue
from tradingflow.messaging.messages import CycleStarted, encode
from tradingflow.messaging.topology import CYCLES, partition_queue
from tradingflow.tracing.traces import link_to_cycle

OUTBOX_LANE = "py_worker"


@dataclass(frozen=True, slots=True)
class CycleStart:
    """One cycle to open. `fire_time` identifies it within its flow; `trigger_data` is what a trigger event said."""

    flow_pk: UUID
    cycle: int
    version: int
    fire_time: datetime
    trigger: str
    trigger_data: Any = None
    rerun_of: int | None = None


async def open_cycles(session: AsyncSession, starts: Sequence[CycleStart], partitions: int) -> set[tuple[UUID, int]]:
    """Open those that are not open yet; returns which. The messages leave when the transaction commits."""
    if not starts:
        return set()
    modes = dict(
        (await session.execute(select(Flow.id, Flow.mode).where(Flow.id.in_({s.flow_pk for s in starts})))).all()
    )
    rows = [
        {
            "flow_pk": s.flow_pk,
            "cycle": s.cycle,
            "version": s.version,
            "fire_time": s.fire_time,
            "trigger": s.trigger,
            "trigger_data": s.trigger_data,
            "rerun_of": s.rerun_of,
            "mode": modes[s.flow_pk],
            "status": "running",
        }
        for s in starts
    ]
    statement = insert(Cycle).values(rows).on_conflict_do_nothing().returning(Cycle.flow_pk, Cycle.cycle)
    opened = {(flow_pk, cycle) for flow_pk, cycle in await session.execute(statement)}
    for key in opened:
        link_to_cycle(*key)
    await announce(session, sorted(opened), partitions)
    return opened


async def announce(session: AsyncSession, keys: Sequence[tuple[UUID, int]], partitions: int) -> None:
    """Tell the workers that these open cycles have something to do. Telling twice does no harm."""
    messages = [start_message(flow_pk, cycle, partitions) for flow_pk, cycle in keys]
    await enqueue(session, OUTBOX_LANE, messages)


def start_message(flow_pk: UUID, cycle: int, partitions: int) -> OutgoingMessage:
    routing_key = partition_queue(cycle_partition(flow_pk, cycle, partitions))
    return OutgoingMessage(CYCLES, routing_key, f"start:{flow_pk}:{cycle}", encode(CycleStarted(flow_pk, cycle)))
