"""Channels, subscriptions and deliveries, as their owner sees them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, delete, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.db.models import ChainCursor, EventSubscription, MonitoredContract, NotificationChannel
from tradingflow.db.models import NotificationDelivery as Delivery

WEBHOOK = "webhook"


async def count_channels(session: AsyncSession, user_id: UUID) -> int:
    return int(await session.scalar(select(func.count()).where(NotificationChannel.user_id == user_id)) or 0)


async def channels_of(session: AsyncSession, user_id: UUID, *, webhooks: bool) -> list[NotificationChannel]:
    statement = _channels(user_id, webhooks=webhooks).order_by(NotificationChannel.created_at, NotificationChannel.id)
    return list(await session.scalars(statement))


async def channel(
    session: AsyncSession, user_id: UUID, channel_id: UUID, *, webhooks: bool, lock: bool = False
) -> NotificationChannel | None:
    statement = _channels(user_id, webhooks=webhooks).where(NotificationChannel.id == channel_id)
    row: NotificationChannel | None = await session.scalar(statement.with_for_update() if lock else statement)
    return row


def _channels(user_id: UUID, *, webhooks: bool) -> Select[NotificationChannel]:
    kind = NotificationChannel.kind
    return select(NotificationChannel).where(
        NotificationChannel.user_id == user_id, kind == WEBHOOK if webhooks else kind != WEBHOOK
    )


async def remove_channel(session: AsyncSession, user_id: UUID, channel_id: UUID, *, webhooks: bool) -> bool:
    kind = NotificationChannel.kind
    statement = delete(NotificationChannel).where(
        NotificationChannel.user_id == user_id,
        NotificationChannel.id == channel_id,
        kind == WEBHOOK if webhooks else kind != WEBHOOK,
    )
    return await session.scalar(statement.returning(NotificationChannel.id)) is not None


async def subscriptions_of(session: AsyncSession, channel_id: UUID) -> list[EventSubscription]:
    statement = select(EventSubscription).where(EventSubscription.channel_id == channel_id)
    return list(await session.scalars(statement.order_by(EventSubscription.id)))


async def count_subscriptions(session: AsyncSession, user_id: UUID) -> int:
    statement = select(func.count()).select_from(EventSubscription).join(NotificationChannel)
    return int(await session.scalar(statement.where(NotificationChannel.user_id == user_id)) or 0)


async def remove_subscription(session: AsyncSession, channel_id: UUID, subscription_id: UUID) -> bool:
    statement = delete(EventSubscription).where(
        EventSubscription.channel_id == channel_id, EventSubscription.id == subscription_id
    )
    return await session.scalar(statement.returning(EventSubscription.id)) is not None


async def is_monitored(session: AsyncSession, chain_id: int, address: str) -> bool:
    return await session.get(MonitoredContract, (chain_id, address)) is not None


async def heads(session: AsyncSession) -> dict[int, int]:
    """The first block not yet stored, by chain."""
    return {row.chain_id: row.next_block for row in await session.scalars(select(ChainCursor))}


async def skip_to(session: AsyncSession, channel_id: UUID, chain_id: int, block: int) -> None:
    """Tell the channel nothing of what happened below this block."""
    await session.execute(
        update(EventSubscription)
        .where(EventSubscription.channel_id == channel_id, EventSubscription.chain_id == chain_id)
        .values(next_block=func.greatest(EventSubscription.next_block, block))
    )


async def deliveries_of(
    session: AsyncSession, channel_id: UUID, status: str | None, after: tuple[datetime, UUID] | None, limit: int
) -> list[Delivery]:
    """The newest first."""
    statement = select(Delivery).where(Delivery.channel_id == channel_id)
    if status is not None:
        statement = statement.where(Delivery.status == status)
    if after is not None:
        statement = statement.where(tuple_(Delivery.created_at, Delivery.id) < after)
    return list(await session.scalars(statement.order_by(Delivery.created_at.desc(), Delivery.id.desc()).limit(limit)))


async def delivery(
    session: AsyncSession, channel_id: UUID, delivery_id: UUID, *, lock: bool = False
) -> Delivery | None:
    statement = select(Delivery).where(Delivery.channel_id == channel_id, Delivery.id == delivery_id)
    row: Delivery | None = await session.scalar(statement.with_for_update() if lock else statement)
    return row


async def add(session: AsyncSession, row: Any) -> None:
    session.add(row)
    await session.flush()
