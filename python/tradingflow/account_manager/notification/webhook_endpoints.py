from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from tradingflow.account_manager.dependencies import AccountHolder, TheParts, Transaction
from tradingflow.account_manager.notification import repository
from tradingflow.account_manager.notification.schemas import (
    DeliveryResponse,
    NewWebhookResponse,
    SecretResponse,
    SubscriptionRequest,
    SubscriptionResponse,
    WebhookPatch,
    WebhookRequest,
    WebhookResponse,
)
from tradingflow.account_manager.notification.service import ChannelService, webhook_response
from tradingflow.account_manager.pagination import Cursor, Limit, Page
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/webhooks", tags=["webhooks"], responses=error_responses(401, 403, 429))
_NOT_FOUND = error_responses(404)
_CONFLICT = error_responses(409)

Status = Annotated[Literal["pending", "delivered", "failed"] | None, Query()]


async def _service(user: AccountHolder, parts: TheParts, session: Transaction) -> ChannelService:
    return ChannelService(parts, session, user.user_id)


Channels = Annotated[ChannelService, Depends(_service)]


@router.post("", status_code=201, responses=_CONFLICT)
async def add_webhook(body: WebhookRequest, channels: Channels) -> NewWebhookResponse:
    """A URL to be told of what happens: a signed POST a notice, repeated with growing pauses until it answers 2xx.

    Only addresses of the public internet are called. Verify `webhook-signature`, and drop a `webhook-id` you had.
    """
    return await channels.add_webhook(body)


@router.get("")
async def list_webhooks(user: AccountHolder, session: Transaction) -> list[WebhookResponse]:
    """Your webhooks, oldest first."""
    return [webhook_response(row) for row in await repository.channels_of(session, user.user_id, webhooks=True)]


@router.get("/{webhook_id}", responses=_NOT_FOUND)
async def read_webhook(webhook_id: UUID, channels: Channels) -> WebhookResponse:
    return webhook_response(await channels.channel(webhook_id, webhooks=True))


@router.patch("/{webhook_id}", responses={**_NOT_FOUND, **_CONFLICT})
async def change_webhook(webhook_id: UUID, body: WebhookPatch, channels: Channels) -> WebhookResponse:
    """Change what is given."""
    return webhook_response(await channels.change_webhook(webhook_id, body))


@router.delete("/{webhook_id}", status_code=204, responses=_NOT_FOUND)
async def remove_webhook(webhook_id: UUID, channels: Channels) -> Response:
    """Forget a webhook and its deliveries."""
    await channels.remove(webhook_id, webhooks=True)
    return Response(status_code=204)


@router.post("/{webhook_id}/secret", responses=_NOT_FOUND)
async def rotate_secret(webhook_id: UUID, channels: Channels) -> SecretResponse:
    """A new signing secret; the old one signs nothing from now on."""
    return SecretResponse(secret=await channels.rotate_secret(webhook_id))


@router.post("/{webhook_id}/test", status_code=202, responses=_NOT_FOUND)
async def test_webhook(webhook_id: UUID, channels: Channels) -> DeliveryResponse:
    """Send a `channel.test` notice, at most ten in a minute."""
    return await channels.test(webhook_id)


@router.get("/{webhook_id}/events", responses=_NOT_FOUND)
async def list_subscriptions(webhook_id: UUID, channels: Channels, session: Transaction) -> list[SubscriptionResponse]:
    """The contract events it is told of."""
    row = await channels.channel(webhook_id, webhooks=True)
    found = await repository.subscriptions_of(session, row.id)
    return [SubscriptionResponse.model_validate(subscription) for subscription in found]


@router.post("/{webhook_id}/events", status_code=201, responses={**_NOT_FOUND, **_CONFLICT})
async def subscribe(webhook_id: UUID, body: SubscriptionRequest, channels: Channels) -> SubscriptionResponse:
    """Be told of events of a monitored contract, as `contract.event`."""
    return SubscriptionResponse.model_validate(await channels.subscribe(webhook_id, body))


@router.delete("/{webhook_id}/events/{subscription_id}", status_code=204, responses=_NOT_FOUND)
async def unsubscribe(webhook_id: UUID, subscription_id: UUID, channels: Channels) -> Response:
    """Be told of these events no more."""
    await channels.unsubscribe(webhook_id, subscription_id)
    return Response(status_code=204)


@router.get("/{webhook_id}/deliveries", responses=_NOT_FOUND)
async def list_deliveries(
    webhook_id: UUID, channels: Channels, status: Status = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[DeliveryResponse]:
    """What it was told, the newest first, and what came of it. Kept for 30 days."""
    return await channels.deliveries(webhook_id, status, cursor, limit, webhooks=True)


@router.post("/{webhook_id}/deliveries/{delivery_id}/replay", status_code=202, responses={**_NOT_FOUND, **_CONFLICT})
async def replay_delivery(webhook_id: UUID, delivery_id: UUID, channels: Channels) -> DeliveryResponse:
    """Send a notice again, under the same `webhook-id`."""
    return DeliveryResponse.model_validate(await channels.replay(webhook_id, delivery_id))
