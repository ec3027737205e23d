"""Trade rows as the executor changes them. The commit is the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import exists, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.relayer.transitions import TradeStatus, trade_sources
from tradingflow.db.models import NodeTask, Schedule, Trade, Vault


@dataclass(frozen=True)
class Failure:
    """Why a trade did not happen: a code for programs and a sentence for people."""

    code: str
    detail: str


async def find(session: AsyncSession, trade_id: str) -> Trade | None:
    return await session.get(Trade, trade_id)


async def lock(session: AsyncSession, trade_id: str) -> Trade:
    """The row as it is now, locked until the caller commits."""
    return await session.get_one(Trade, trade_id, with_for_update=True, populate_existing=True)


async def lock_schedule(session: AsyncSession, flow_pk: UUID) -> None:
    """Until the caller commits, nobody starts a cycle of the flow."""
    await session.execute(select(Schedule.flow_pk).where(Schedule.flow_pk == flow_pk).with_for_update())


async def unsettled(session: AsyncSession, limit: int, after: tuple[datetime, str] | None = None) -> list[Trade]:
    """Trades that still need work, oldest first: open ones, and settled ones a reorg could undo."""
    query = select(Trade).where(Trade.finalized_at.is_(None)).order_by(Trade.created_at, Trade.id).limit(limit)
    if after is not None:
        query = query.where(tuple_(Trade.created_at, Trade.id) > after)
    return list(await session.scalars(query))


async def next_requested(session: AsyncSession, chain_id: int, vault: str) -> str | None:
    """The trade of a vault whose turn it is to begin: the oldest one, and none while another is in flight."""
    of_vault = (Trade.chain_id == chain_id) & (Trade.vault_address == vault)
    in_flight = exists().where(of_vault, Trade.status == TradeStatus.SUBMITTED, Trade.settled_at.is_(None))
    found: str | None = await session.scalar(
        select(Trade.id)
        .where(of_vault, Trade.status == TradeStatus.REQUESTED, ~in_flight)
        .order_by(Trade.created_at, Trade.id)
        .limit(1)
    )
    return found


async def was_terminated(session: AsyncSession, trade: Trade) -> bool:
    """Whether somebody ended the node that asked for the trade: alone, with its cycle, or with the whole flow.

    An operator who asks for another try afterwards knows that.
    """
    task = await session.get(NodeTask, (trade.flow_pk, trade.cycle, trade.node_id), populate_existing=True)
    if task is None or task.status != "terminated":
        return False
    return trade.retried_at is None or task.finished_at is None or task.finished_at > trade.retried_at


async def move(session: AsyncSession, trade_id: str, target: TradeStatus, **values: Any) -> bool:
    """Change the status where the table of transitions allows it; False when it does not."""
    moved = await session.execute(
        update(Trade)
        .where(Trade.id == trade_id, Trade.status.in_(trade_sources(target)))
        .values(status=target, **values)
        .returning(Trade.id)
    )
    return moved.first() is not None


async def amend(session: AsyncSession, trade_id: str, **values: Any) -> None:
    """Change facts of a trade without changing its status."""
    await session.execute(update(Trade).where(Trade.id == trade_id).values(**values))


async def vault_created_block(session: AsyncSession, chain_id: int, vault: str) -> int | None:
    found: int | None = await session.scalar(
        select(Vault.created_block).where(Vault.chain_id == chain_id, Vault.address == vault)
    )
    return found
