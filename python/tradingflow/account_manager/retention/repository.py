from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, exists, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from tradingflow.db.models import ApiKey, AuthSession, Base, NotificationDelivery, PricePoint

DELIVERIES_KEPT = timedelta(days=30)
# A stolen refresh token is told from an unknown one as long as its session is kept.
SESSIONS_KEPT = timedelta(days=30)
KEYS_KEPT = timedelta(days=90)
PRICES_KEPT = timedelta(days=90)


async def delete_some(session: AsyncSession, now: datetime, limit: int) -> int:
    """Delete at most `limit` rows of each kind that are past their time; returns how many."""
    deleted = 0
    for kind, past in _past(now):
        key = kind.__mapper__.primary_key
        doomed = select(*key).where(past).limit(limit).with_for_update(skip_locked=True)
        gone = await session.execute(delete(kind).where(tuple_(*key).in_(doomed)).returning(*key))
        deleted += len(gone.all())
    return deleted


def _past(now: datetime) -> list[tuple[type[Base], ColumnElement[bool]]]:
    sessions, keys = now - SESSIONS_KEPT, now - KEYS_KEPT
    return [
        (
            NotificationDelivery,
            (NotificationDelivery.created_at < now - DELIVERIES_KEPT) & (NotificationDelivery.status != "pending"),
        ),
        (AuthSession, or_(AuthSession.expires_at < sessions, AuthSession.revoked_at < sessions)),
        (ApiKey, or_(ApiKey.expires_at < keys, ApiKey.revoked_at < keys)),
        (PricePoint, (PricePoint.taken_at < now - PRICES_KEPT) & _has_newer_price()),
    ]


def _has_newer_price() -> ColumnElement[bool]:
    """The last word of a market stays, however old: without it the pools would vouch for themselves again."""
    newer = aliased(PricePoint)
    return exists().where(
        newer.chain_id == PricePoint.chain_id,
        newer.token == PricePoint.token,
        newer.source == PricePoint.source,
        newer.taken_at > PricePoint.taken_at,
    )
