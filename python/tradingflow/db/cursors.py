"""How far the Monitor has stored a chain."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.db.models import ChainCursor


async def next_block(session: AsyncSession, chain_id: int) -> int | None:
    """The first block that is not stored yet; None when nobody ever followed the chain."""
    found: int | None = await session.scalar(select(ChainCursor.next_block).where(ChainCursor.chain_id == chain_id))
    return found
