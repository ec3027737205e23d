"""From stored contract events to deliveries, for the channels that subscribed to them.

The stored events are the queue: a subscription's `next_block` says from where on it may miss some. Blocks above the
finality are looked at again each time, so an event that a reorg removed is taken back, and the one that took its
place is told. All of it is repeatable: a channel is told of an event's key once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, String, and_, case, cast, exists, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.notification.happenings import event_payload
from tradingflow.account_manager.notification.outgoing import delivery_row, write
from tradingflow.account_manager.notification.topics import CONTRACT_EVENT, CONTRACT_EVENT_REVERTED
from tradingflow.db.models import ChainCursor, ContractEvent, EventSubscription, MonitoredContract, NotificationChannel
from tradingflow.db.models import NotificationDelivery as Delivery

EVENTS_AT_ONCE = 500


async def collect(session: AsyncSession, cursor: ChainCursor, now: datetime) -> bool:
    """Write what one chain's subscriptions miss, up to `cursor`; whether there may be more."""
    found = await _missed(session, cursor)
    await write(session, [_telling(subscription, event, cursor, now) for subscription, event in found])
    if len(found) == EVENTS_AT_ONCE:
        return True
    await _advance(session, cursor)
    return False


def _telling(
    subscription: EventSubscription, event: ContractEvent, cursor: ChainCursor, now: datetime
) -> dict[str, Any]:
    row = delivery_row(subscription.channel_id, _key(event), CONTRACT_EVENT, event_payload(event), now)
    open_block = event.block_number if event.block_number >= cursor.next_final_block else None
    return {**row, "chain_id": event.chain_id, "block_number": open_block}


def _key(event: ContractEvent) -> str:
    return f"event:{event.chain_id}:{event.block_hash}:{event.log_index}"


def _key_of_row() -> ColumnElement[str]:
    """The same in SQL."""
    return (
        literal("event:")
        + cast(ContractEvent.chain_id, String)
        + literal(":0x")
        + func.encode(ContractEvent.block_hash, "hex", type_=String)
        + literal(":")
        + cast(ContractEvent.log_index, String)
    )


async def _missed(session: AsyncSession, cursor: ChainCursor) -> list[tuple[EventSubscription, ContractEvent]]:
    until = case((EventSubscription.certainty == "final", cursor.next_final_block), else_=cursor.next_block)
    told = exists().where(
        Delivery.channel_id == EventSubscription.channel_id,
        Delivery.key == _key_of_row(),
        Delivery.reverted_at.is_(None),
    )
    statement = (
        select(EventSubscription, ContractEvent)
        .join(NotificationChannel, NotificationChannel.id == EventSubscription.channel_id)
        .join(
            ContractEvent,
            and_(
                ContractEvent.chain_id == EventSubscription.chain_id,
                ContractEvent.address == EventSubscription.address,
                ContractEvent.block_number >= EventSubscription.next_block,
                ContractEvent.block_number < until,
            ),
        )
        .where(
            EventSubscription.chain_id == cursor.chain_id,
            NotificationChannel.status == "active",
            or_(EventSubscription.name.is_(None), EventSubscription.name == ContractEvent.name),
            ~told,
        )
        .order_by(ContractEvent.block_number, ContractEvent.log_index)
        .limit(EVENTS_AT_ONCE)
    )
    return [(subscription, event) for subscription, event in await session.execute(statement)]


async def _advance(session: AsyncSession, cursor: ChainCursor) -> None:
    """All final events are told: go on from there, but not past what is still being read of a contract's past."""
    final = cursor.next_final_block
    complete = case(
        (MonitoredContract.live_from.is_(None), EventSubscription.next_block),
        (
            MonitoredContract.history_next < MonitoredContract.live_from,
            func.least(final, MonitoredContract.history_next),
        ),
        else_=final,
    )
    await session.execute(
        update(EventSubscription)
        .where(
            EventSubscription.chain_id == cursor.chain_id,
            EventSubscription.next_block < final,
            MonitoredContract.chain_id == EventSubscription.chain_id,
            MonitoredContract.address == EventSubscription.address,
        )
        .values(next_block=func.greatest(EventSubscription.next_block, complete))
        .execution_options(synchronize_session=False)
    )


async def take_back(session: AsyncSession, cursor: ChainCursor, now: datetime) -> int:
    """Tell that events are gone which a reorg removed; returns how many."""
    still_there = exists().where(
        ContractEvent.chain_id == Delivery.chain_id,
        ContractEvent.block_number == Delivery.block_number,
        _key_of_row() == Delivery.key,
    )
    open_here = and_(Delivery.chain_id == cursor.chain_id, Delivery.block_number.is_not(None))
    statement = select(Delivery).where(open_here, ~still_there).with_for_update()
    gone = list(await session.scalars(statement))
    for delivery in gone:
        delivery.reverted_at, delivery.block_number = now, None
        if delivery.tries == 0:  # nobody has heard of it: there is nothing to take back
            delivery.status, delivery.due_at = "failed", None
            delivery.last_answer = {"error": "reverted", "detail": "a reorg removed the event before it was told"}
        else:
            await write(session, [_reverting(delivery, now)])
    await session.flush()
    settled = update(Delivery).where(open_here, Delivery.block_number < cursor.next_final_block)
    await session.execute(settled.values(block_number=None).execution_options(synchronize_session=False))
    return len(gone)


def _reverting(delivery: Delivery, now: datetime) -> dict[str, Any]:
    payload = {**delivery.payload, "reverts": str(delivery.id)}
    key = f"reverted:{delivery.id}"
    return delivery_row(delivery.channel_id, key, CONTRACT_EVENT_REVERTED, payload, now)
