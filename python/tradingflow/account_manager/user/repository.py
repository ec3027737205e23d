from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.db.models import User, Wallet


async def user_with_wallets(session: AsyncSession, user_id: UUID) -> Sequence[Row[User, Wallet]]:
    """(user, wallet) rows, oldest wallet first; empty when the account is gone."""
    statement = (
        select(User, Wallet)
        .join(Wallet, Wallet.user_id == User.id)
        .where(User.id == user_id)
        .order_by(Wallet.created_at)
    )
    return (await session.execute(statement)).all()


async def wallet_addresses(session: AsyncSession, user_id: UUID) -> frozenset[str]:
    return frozenset(await session.scalars(select(Wallet.address).where(Wallet.user_id == user_id)))
