"""A user's channels: making them, proving them, changing them, looking at what they were told."""

from __future__ import annotations

import hmac
from datetime import datetime
from uuid import UUID, uuid4

import msgspec
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.auth.hashing import hash_secret
from tradingflow.account_manager.contract.repository import is_foreign_vault
from tradingflow.account_manager.notification import repository, signing
from tradingflow.account_manager.notification.schemas import (
    ChannelRequest,
    DeliveryResponse,
    NewWebhookResponse,
    SubscriptionRequest,
    WebhookPatch,
    WebhookRequest,
    WebhookResponse,
    check_target,
)
from tradingflow.account_manager.notification.topics import CONFIRMATION, TEST
from tradingflow.account_manager.pagination import Page, cut, decode_cursor, encode_cursor
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.plan.repository import plan_of
from tradingflow.core.errors import Conflict, InvalidInput, NotFound
from tradingflow.db.cursors import next_block
from tradingflow.db.models import EventSubscription, NotificationChannel, NotificationDelivery

MAX_CODE_TRIES = 5


class DeliveryCursor(msgspec.Struct, frozen=True):
    created_at: datetime
    id: UUID


class ChannelService:
    """One request's view; `session` is the request's transaction. What is not the caller's is NotFound."""

    def __init__(self, parts: Parts, session: AsyncSession, user_id: UUID) -> None:
        self._parts = parts
        self._session = session
        self._user_id = user_id

    async def add_webhook(self, request: WebhookRequest) -> NewWebhookResponse:
        """Raises Conflict for a URL that is there already, and past the plan."""
        secret, channel_id = signing.new_secret(), uuid4()
        sealed = self._parts.sealer.seal(secret, channel_id, self._user_id)
        row = await self._add_channel(
            id=channel_id,
            kind=repository.WEBHOOK,
            target=request.url,
            description=request.description,
            topics=None if request.topics is None else sorted(set(request.topics)),
            key_id=sealed.key_id,
            sealed=sealed.data,
            status="active",
        )
        return NewWebhookResponse(**webhook_response(row).model_dump(), secret=signing.shown(secret))

    async def add_channel(self, request: ChannelRequest) -> NotificationChannel:
        """An unconfirmed channel, to which a code is sent. Raises TooManyRequests: strangers are not to be bothered."""
        target = check_target(request)
        limits = self._parts.limits
        for caller in (f"{request.kind}:{target}", str(self._user_id)):
            await limits.count(limits.confirmation, caller)
        row = await self._add_channel(id=uuid4(), kind=request.kind, target=target, status="unconfirmed")
        await self._tell(row.id, CONFIRMATION)
        return row

    async def _add_channel(self, **fields: object) -> NotificationChannel:
        plan = await plan_of(self._session, self._user_id, lock=True)
        if await repository.count_channels(self._session, self._user_id) >= plan.channels:
            raise Conflict("too_many_channels", f"the plan {plan.name} has {plan.channels} channels; remove one first")
        now = self._parts.clock.now()
        row = NotificationChannel(user_id=self._user_id, created_at=now, updated_at=now, **fields)
        try:
            await repository.add(self._session, row)
        except IntegrityError as error:
            raise Conflict("channel_exists", "there is a channel with this target already") from error
        return row

    async def confirm(self, channel_id: UUID, code: str) -> NotificationChannel:
        """Raises InvalidInput for a wrong or late code; each code can be tried five times."""
        row = await self.channel(channel_id, webhooks=False, lock=True)
        if row.status != "unconfirmed":
            raise Conflict("already_confirmed", "the channel is confirmed already")
        if row.code_hash is None or row.code_expires_at is None:
            raise InvalidInput("no_code_yet", "the code has not been sent yet; its delivery says why")
        row.code_tries += 1
        in_time = row.code_tries <= MAX_CODE_TRIES and row.code_expires_at > self._parts.clock.now()
        if not (in_time and hmac.compare_digest(row.code_hash, hash_secret(code))):
            await self._session.commit()  # the try counts although the caller is refused
            raise InvalidInput("wrong_code", "the code is wrong, late, or was tried too often; add the channel anew")
        row.status, row.code_hash, row.code_expires_at = "active", None, None
        await self._session.flush()
        return row

    async def change_webhook(self, channel_id: UUID, patch: WebhookPatch) -> NotificationChannel:
        row = await self.channel(channel_id, webhooks=True, lock=True)
        given = patch.model_fields_set
        if patch.url is not None:
            row.target = patch.url
        if patch.description is not None:
            row.description = patch.description
        if "topics" in given:
            row.topics = None if patch.topics is None else sorted(set(patch.topics))
        if patch.paused is not None and patch.paused != (row.status == "paused"):
            await self._pause(row, paused=patch.paused)
        row.updated_at = self._parts.clock.now()
        try:
            await self._session.flush()
        except IntegrityError as error:
            raise Conflict("channel_exists", "there is a webhook with this URL already") from error
        return row

    async def _pause(self, row: NotificationChannel, *, paused: bool) -> None:
        row.status = "paused" if paused else "active"
        row.paused_reason = "paused by you" if paused else None
        row.failing_since = None
        if not paused:
            for chain_id, block in (await repository.heads(self._session)).items():
                await repository.skip_to(self._session, row.id, chain_id, block)

    async def rotate_secret(self, channel_id: UUID) -> str:
        row = await self.channel(channel_id, webhooks=True, lock=True)
        secret = signing.new_secret()
        sealed = self._parts.sealer.seal(secret, row.id, self._user_id)
        row.key_id, row.sealed = sealed.key_id, sealed.data
        await self._session.flush()
        return signing.shown(secret)

    async def remove(self, channel_id: UUID, *, webhooks: bool) -> None:
        if not await repository.remove_channel(self._session, self._user_id, channel_id, webhooks=webhooks):
            raise NotFound("channel", channel_id)

    async def subscribe(self, channel_id: UUID, request: SubscriptionRequest) -> EventSubscription:
        """Raises InvalidInput for a contract nobody monitors, Conflict when subscribed already or past the plan."""
        row = await self.channel(channel_id, webhooks=True)
        self._parts.settings.chain(request.chain_id)
        if await is_foreign_vault(self._session, self._user_id, request.chain_id, request.address):
            raise NotFound("contract", request.address)
        if not await repository.is_monitored(self._session, request.chain_id, request.address):
            raise InvalidInput("not_monitored", "this contract is not monitored; register it at POST /contracts first")
        plan = await plan_of(self._session, self._user_id, lock=True)
        if await repository.count_subscriptions(self._session, self._user_id) >= plan.event_subscriptions:
            raise Conflict("too_many_subscriptions", f"the plan {plan.name} has {plan.event_subscriptions} of them")
        head = await next_block(self._session, request.chain_id)
        subscription = EventSubscription(id=uuid4(), channel_id=row.id, next_block=head or 0, **request.model_dump())
        try:
            await repository.add(self._session, subscription)
        except IntegrityError as error:
            raise Conflict("already_subscribed", "this webhook is told of these events already") from error
        return subscription

    async def unsubscribe(self, channel_id: UUID, subscription_id: UUID) -> None:
        row = await self.channel(channel_id, webhooks=True)
        if not await repository.remove_subscription(self._session, row.id, subscription_id):
            raise NotFound("subscription", subscription_id)

    async def test(self, channel_id: UUID) -> DeliveryResponse:
        """Raises TooManyRequests."""
        row = await self.channel(channel_id, webhooks=True)
        await self._parts.limits.count(self._parts.limits.test_notice, str(self._user_id))
        return DeliveryResponse.model_validate(await self._tell(row.id, TEST))

    async def _tell(self, channel_id: UUID, topic: str) -> NotificationDelivery:
        """A delivery of its own that happened just now."""
        now, delivery_id = self._parts.clock.now(), uuid4()
        row = NotificationDelivery(
            id=delivery_id,
            channel_id=channel_id,
            key=f"{topic}:{delivery_id}",
            topic=topic,
            payload={},
            status="pending",
            tries=0,
            due_at=now,
            created_at=now,
        )
        await repository.add(self._session, row)
        return row

    async def deliveries(
        self, channel_id: UUID, status: str | None, cursor: str | None, limit: int, *, webhooks: bool
    ) -> Page[DeliveryResponse]:
        row = await self.channel(channel_id, webhooks=webhooks)
        key = decode_cursor(cursor, DeliveryCursor)
        after = (key.created_at, key.id) if key else None
        rows, more = cut(await repository.deliveries_of(self._session, row.id, status, after, limit + 1), limit)
        last: NotificationDelivery | None = rows[-1] if more else None
        return Page(
            items=[DeliveryResponse.model_validate(delivery) for delivery in rows],
            next_cursor=encode_cursor(DeliveryCursor(last.created_at, last.id)) if last else None,
        )

    async def replay(self, channel_id: UUID, delivery_id: UUID) -> NotificationDelivery:
        """Send it again, under the same id. Raises Conflict while it is still being tried."""
        row = await self.channel(channel_id, webhooks=True)
        delivery = await repository.delivery(self._session, row.id, delivery_id, lock=True)
        if delivery is None:
            raise NotFound("delivery", delivery_id)
        if delivery.status == "pending":
            raise Conflict("still_pending", "this delivery is still being tried; see due_at")
        delivery.status, delivery.tries, delivery.due_at = "pending", 0, self._parts.clock.now()
        await self._session.flush()
        return delivery

    async def channel(self, channel_id: UUID, *, webhooks: bool, lock: bool = False) -> NotificationChannel:
        row = await repository.channel(self._session, self._user_id, channel_id, webhooks=webhooks, lock=lock)
        if row is None:
            raise NotFound("webhook" if webhooks else "channel", channel_id)
        return row


def webhook_response(row: NotificationChannel) -> WebhookResponse:
    return WebhookResponse(
        id=row.id,
        url=row.target,
        description=row.description,
        topics=row.topics,
        status=row.status,
        paused_reason=row.paused_reason,
        failing_since=row.failing_since,
        created_at=row.created_at,
    )
