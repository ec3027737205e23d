"""A cycle as it was recorded, read back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.errors import Conflict
from tradingflow.db.models import Cycle, Flow, JournalEntry, NodeTask
from tradingflow.py_worker.engine.cycle import Outcome
from tradingflow.py_worker.kit import Trigger
from tradingflow.py_worker.replay.replay import Recording

ENDED = ("completed", "failed", "skipped", "terminated")


async def read_recording(session: AsyncSession, flow: Flow, cycle: Cycle) -> Recording:
    """Raises Conflict while the cycle is open, and when more came in than its journal keeps."""
    if cycle.status == "running":
        raise Conflict("cycle_open", "the cycle is still open; replay it when it has ended")
    of_cycle = (NodeTask.flow_pk == flow.id, NodeTask.cycle == cycle.cycle)
    tasks = (await session.scalars(select(NodeTask).where(*of_cycle))).all()
    entries = (
        await session.scalars(
            select(JournalEntry).where(JournalEntry.flow_pk == flow.id, JournalEntry.cycle == cycle.cycle)
        )
    ).all()
    if cut := [entry.node_id for entry in entries if entry.is_cut]:
        raise Conflict("journal_cut", f"more came in to node {cut[0]!r} than a journal keeps; it cannot be replayed")
    return Recording(
        flow.flow_id,
        cycle.cycle,
        cycle.mode,
        f"{flow.id}:{cycle.version}",
        cycle.fire_time,
        {task.node_id: _outcome(task) for task in tasks if task.status in ENDED},
        {entry.node_id: entry.entries for entry in entries},
        {"trigger": Trigger(cycle.trigger, cycle.trigger_data)},
    )


def _outcome(task: NodeTask) -> Outcome:
    status: Any = task.status
    return Outcome(status, task.outputs or {}, task.error, task.attempt, task.started_at, task.finished_at)
