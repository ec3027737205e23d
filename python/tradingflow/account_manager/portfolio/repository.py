"""Stored valuations of vaults."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy import Row, bindparam, func, literal_column, select, true
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.portfolio.schemas import VaultPortfolio
from tradingflow.db.models import Vault, VaultValuation
from tradingflow.db.reads import PreparedRead, ReadPool


def _newest() -> PreparedRead:
    last = (
        select(VaultValuation)
        .where(VaultValuation.vault_id == Vault.id)
        .order_by(VaultValuation.taken_at.desc())
        .limit(literal_column("1"))
        .lateral()
    )
    columns = ("block_number", "taken_at", "quote_token", "quote_symbol", "positions", "value", "reason")
    statement = (
        select(Vault.chain_id, Vault.address, *(last.c[name] for name in columns))
        .outerjoin(last, true())
        .where(Vault.user_id == bindparam("user_id"))
        .order_by(Vault.created_at, Vault.id)
    )
    return PreparedRead(statement)


NEWEST = _newest()


async def newest(reads: ReadPool, user_id: UUID) -> list[asyncpg.Record]:
    """Each of the user's vaults, oldest first, with its newest valuation; that is NULL before the first."""
    return await reads.fetch(NEWEST, user_id=user_id)


async def newest_since(session: AsyncSession, vault_id: UUID, since: datetime) -> VaultValuation | None:
    """The vault's newest valuation, if it was taken after `since`."""
    statement = select(VaultValuation).where(VaultValuation.vault_id == vault_id, VaultValuation.taken_at > since)
    return (await session.scalars(statement.order_by(VaultValuation.taken_at.desc()).limit(1))).one_or_none()


async def valued_longest_ago(
    session: AsyncSession, chain_id: int, before: datetime, waiting: Collection[UUID], limit: int
) -> list[Vault]:
    """Vaults of a chain whose newest valuation is older than `before`; those never valued come first.

    Those `waiting` are left out.
    """
    newest_at = select(func.max(VaultValuation.taken_at)).where(VaultValuation.vault_id == Vault.id).scalar_subquery()
    statement = (
        select(Vault)
        .where(Vault.chain_id == chain_id, Vault.id.not_in(waiting), func.coalesce(newest_at < before, true()))
        .order_by(newest_at.asc().nulls_first(), Vault.id)
        .limit(limit)
    )
    return list(await session.scalars(statement))


async def keep(session: AsyncSession, vault_id: UUID, valued: VaultPortfolio, taken_at: datetime) -> None:
    """Store a valuation; a second one of the same moment changes nothing."""
    values = {
        "vault_id": vault_id,
        "taken_at": taken_at,
        "block_number": valued.block_number,
        "quote_token": valued.quote_token,
        "quote_symbol": valued.quote_symbol,
        "positions": [position.model_dump(mode="json") for position in valued.positions],
        "value": valued.value,
        "reason": valued.reason,
    }
    await session.execute(insert(VaultValuation).values(values).on_conflict_do_nothing())


async def history(
    session: AsyncSession, user_id: UUID, since: datetime, until: datetime, step_s: int, limit: int
) -> Sequence[Row[Vault, VaultValuation]]:
    """The last valuation of each vault in each step of `step_s` seconds, oldest first."""
    step = func.floor(func.extract("epoch", VaultValuation.taken_at) / step_s)
    statement = (
        select(Vault, VaultValuation)
        .join(VaultValuation, VaultValuation.vault_id == Vault.id)
        .where(Vault.user_id == user_id, VaultValuation.taken_at >= since, VaultValuation.taken_at < until)
        .ext(distinct_on(step, Vault.id))
        .order_by(step, Vault.id, VaultValuation.taken_at.desc())
        .limit(limit)
    )
    return (await session.execute(statement)).all()
