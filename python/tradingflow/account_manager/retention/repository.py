from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from tradingflow.db.models import (
    ApiKey,
    AuthSession,
    Base,
    NotificationDelivery,
    PricePoint,
    Vault,
    VaultValuation,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DELIVERIES_KEPT = timedelta(days=30)
# A stolen refresh token is told from an unknown one as long as its session is kept.
SESSIONS_KEPT = timedelta(days=30)
KEYS_KEPT = timedelta(days=90)
PRICES_KEPT = timedelta(days=90)
# From this age on, the last valuation of so much time is kept. Returns of a life of 90 days are measured in steps of 65
# minutes, of a week in 5.
VALUATIONS_THINNED = ((timedelta(days=7), timedelta(minutes=5)), (timedelta(days=90), timedelta(hours=1)))
# How far beyond such an age a run looks: jobs may have stood still for so long.
THINNED_BACK = timedelta(days=7)


async def delete_some(session: AsyncSession, now: datetime, limit: int) -> int:
    """Delete at most `limit` rows of each kind that are past their time; returns how many."""
    deleted = 0
    for kind, past in _past(now):
        key = kind.__mapper__.primary_key
        doomed = select(*key).where(past).limit(limit).with_for_update(skip_locked=True)
        gone = await session.execute(delete(kind).where(tuple_(*key).in_(doomed)).returning(*key))
        deleted += len(gone.all())
    return deleted


async def vaults_after(session: AsyncSession, last: UUID | None, limit: int) -> Sequence[UUID]:
    statement = select(Vault.id).order_by(Vault.id).limit(limit)
    return (await session.scalars(statement if last is None else statement.where(Vault.id > last))).all()


async def thin_valuations(session: AsyncSession, vault_id: UUID, now: datetime) -> int:
    """Delete valuations of a vault that are followed by another one of the same step; returns how many."""
    later = aliased(VaultValuation)
    deleted = 0
    for age, step in VALUATIONS_THINNED:
        until = now - age
        gone = await session.execute(
            delete(VaultValuation)
            .where(
                VaultValuation.vault_id == vault_id,
                VaultValuation.taken_at >= until - THINNED_BACK,
                VaultValuation.taken_at < until,
                exists().where(
                    later.vault_id == vault_id,
                    later.taken_at > VaultValuation.taken_at,
                    later.taken_at < func.date_bin(step, VaultValuation.taken_at, EPOCH) + step,
                ),
            )
            .returning(VaultValuation.taken_at)
        )
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
