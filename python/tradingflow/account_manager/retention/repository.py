from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from tradingflow.db.models import ApiKey, AuthSession, NotificationDelivery

DELIVERIES_KEPT = timedelta(days=30)
# A stolen refresh token is told from an unknown one as long as its session is kept.
SESSIONS_KEPT = timedelta(days=30)
KEYS_KEPT = timedelta(days=90)


async def delete_some(session: AsyncSession, now: datetime, limit: int) -> int:
    """Delete at most `limit` rows of each kind that are past their time; returns how many."""
    deleted = 0
    for key, past in _past(now):
        doomed = select(key).where(past).limit(limit).with_for_update(skip_locked=True)
        gone = await session.scalars(delete(key.class_).where(key.in_(doomed)).returning(key))
        deleted += len(list(gone))
    return deleted


def _past(now: datetime) -> list[tuple[InstrumentedAttribute[Any], ColumnElement[bool]]]:
    sessions, keys = now - SESSIONS_KEPT, now - KEYS_KEPT
    return [
        (
            NotificationDelivery.id,
            (NotificationDelivery.created_at < now - DELIVERIES_KEPT) & (NotificationDelivery.status != "pending"),
        ),
        (AuthSession.id, or_(AuthSession.expires_at < sessions, AuthSession.revoked_at < sessions)),
        (ApiKey.id, or_(ApiKey.expires_at < keys, ApiKey.revoked_at < keys)),
    ]
