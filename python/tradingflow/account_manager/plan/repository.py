from __future__ import annotations

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.errors import Unauthenticated
from tradingflow.db.models import Plan, User


async def plan_of(session: AsyncSession, user_id: UUID, *, lock: bool = False) -> Plan:
    """The account's plan. With `lock` others who count against it wait until the commit: the count then holds.

    Raises Unauthenticated when the account of a still valid token was deleted.
    """
    statement = select(Plan).join(User, User.plan == Plan.name).where(User.id == user_id)
    plan: Plan | None = await session.scalar(statement.with_for_update(of=User) if lock else statement)
    if plan is None:
        raise Unauthenticated("account_gone", "the account of this access token no longer exists")
    return plan
