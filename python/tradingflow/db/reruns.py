"""Which cycle ran another again: asked before a second rerun begins, and before a trade of the first is tried again."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.db.models import Cycle


async def rerun_of_cycle(session: AsyncSession, flow_pk: UUID, cycle: int) -> int | None:
    """The cycle that ran this one again. Who holds the lock of the flow's schedule knows that nobody starts another."""
    statement = select(Cycle.cycle).where(Cycle.flow_pk == flow_pk, Cycle.cycle > cycle, Cycle.rerun_of == cycle)
    return await session.scalar(statement)
