"""Writing deliveries: which channel wants what, once, and no more than the plan allows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.notification.happenings import Happening
from tradingflow.account_manager.notification.topics import CONTRACT_EVENT, CONTRACT_EVENT_REVERTED, preferred
from tradingflow.account_manager.user.preferences import Preferences, upgrade
from tradingflow.db.models import NotificationChannel, Plan, User, UserPreferences
from tradingflow.db.models import NotificationDelivery as Delivery

# Anybody may deposit a token of no worth. What that brings about may use up this part of a plan, or enough of it would
# pause the channel that tells of failed trades.
ANYBODYS_TOPIC = "vault.deposit"
ANYBODYS_PART = 5


async def tell(session: AsyncSession, happenings: Sequence[Happening], now: datetime) -> int:
    """Write a delivery of each happening for every channel that wants it and was not told; returns how many.

    Deposits beyond a fifth of what the plan has a day are not told.
    """
    channels, preferences = await _channels(session, {happening.user_id for happening in happenings})
    rows = []
    room = await _room(session, {each.user_id for each in happenings if each.topic == ANYBODYS_TOPIC}, now)
    for happening in happenings:
        for channel in channels[happening.user_id]:
            if not _wants(channel, happening, preferences[happening.user_id]):
                continue
            if happening.topic == ANYBODYS_TOPIC:
                room[happening.user_id] -= 1
                if room[happening.user_id] < 0:
                    continue
            rows.append(delivery_row(channel.id, happening.key, happening.topic, happening.payload, now))
    return await write(session, rows)


async def _room(session: AsyncSession, users: set[UUID], now: datetime) -> dict[UUID, int]:
    """How many deposits each of these may still be told of today."""
    told = (
        select(func.count())
        .select_from(Delivery)
        .join(NotificationChannel, NotificationChannel.id == Delivery.channel_id)
        .where(
            NotificationChannel.user_id == User.id,
            Delivery.topic == ANYBODYS_TOPIC,
            Delivery.created_at > now - timedelta(days=1),
        )
        .scalar_subquery()
    )
    statement = select(User.id, Plan.notices_per_day, told).join(Plan, Plan.name == User.plan).where(User.id.in_(users))
    return {user: notices // ANYBODYS_PART - so_far for user, notices, so_far in await session.execute(statement)}


def _wants(channel: NotificationChannel, happening: Happening, preferences: frozenset[str]) -> bool:
    """What happened before the channel was there is not told."""
    topics = preferences if channel.topics is None else channel.topics
    return happening.topic in topics and happening.at >= channel.created_at


def delivery_row(channel_id: UUID, key: str, topic: str, payload: dict[str, Any], now: datetime) -> dict[str, Any]:
    return {
        "id": uuid4(),
        "channel_id": channel_id,
        "key": key,
        "topic": topic,
        "payload": payload,
        "status": "pending",
        "tries": 0,
        "due_at": now,
        "created_at": now,
    }


async def write(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> int:
    """Insert what is not there yet. Each is a microsecond younger than the one before, and so sent after it."""
    if not rows:
        return 0
    steps = [timedelta(microseconds=place - len(rows)) for place in range(len(rows))]
    rows = [
        {**row, "created_at": row["created_at"] + step, "due_at": row["due_at"] + step}
        for row, step in zip(rows, steps, strict=True)
    ]
    statement = (
        insert(Delivery)
        .on_conflict_do_nothing(
            index_elements=[Delivery.channel_id, Delivery.key], index_where=Delivery.reverted_at.is_(None)
        )
        .returning(Delivery.id)
    )
    return len(list(await session.scalars(statement, rows)))


async def pause_over_plan(session: AsyncSession, now: datetime) -> list[UUID]:
    """Pause the channels of accounts that were told more in a day than their plan has.

    Contract events, which anybody may cause any number of, count for the channel that subscribed to them alone: the
    others go on.
    """
    is_event = Delivery.topic.in_((CONTRACT_EVENT, CONTRACT_EVENT_REVERTED))
    today = and_(Delivery.channel_id == NotificationChannel.id, Delivery.created_at > now - timedelta(days=1))
    of_account = func.sum(func.count(Delivery.id).filter(~is_event)).over(partition_by=NotificationChannel.user_id)
    told = (
        select(
            NotificationChannel.id,
            NotificationChannel.user_id,
            (of_account + func.count(Delivery.id).filter(is_event)).label("notices"),
        )
        .outerjoin(Delivery, today)
        .group_by(NotificationChannel.id)
        .subquery()
    )
    over = (
        select(told.c.id)
        .join(User, User.id == told.c.user_id)
        .join(Plan, Plan.name == User.plan)
        .where(told.c.notices >= Plan.notices_per_day)
    )
    statement = (
        update(NotificationChannel)
        .where(NotificationChannel.id.in_(over), NotificationChannel.status == "active")
        .values(status="paused", paused_reason="more notices in a day than the plan has", updated_at=now)
        .returning(NotificationChannel.id)
    )
    return list(await session.scalars(statement))


async def _channels(
    session: AsyncSession, users: set[UUID]
) -> tuple[dict[UUID, list[NotificationChannel]], dict[UUID, frozenset[str]]]:
    channels: dict[UUID, list[NotificationChannel]] = defaultdict(list)
    statement = select(NotificationChannel).where(
        NotificationChannel.user_id.in_(users), NotificationChannel.status == "active"
    )
    for channel in await session.scalars(statement):
        channels[channel.user_id].append(channel)
    stored = {
        row.user_id: upgrade(row.schema_version, row.values)
        for row in await session.scalars(select(UserPreferences).where(UserPreferences.user_id.in_(users)))
    }
    preferences = {user: preferred(Preferences.model_validate(stored.get(user, {})).notifications) for user in users}
    return channels, preferences
