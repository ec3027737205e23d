from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from tradingflow.account_manager.dependencies import AccountHolder, Transaction
from tradingflow.account_manager.notification import repository
from tradingflow.account_manager.notification.schemas import (
    ChannelRequest,
    ChannelResponse,
    ConfirmRequest,
    DeliveryResponse,
)
from tradingflow.account_manager.notification.webhook_endpoints import Channels, Status
from tradingflow.account_manager.pagination import Cursor, Limit, Page
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/notifications/channels", tags=["notifications"], responses=error_responses(401, 403, 429))
_NOT_FOUND = error_responses(404)
_CONFLICT = error_responses(409)


@router.post("", status_code=201, responses=_CONFLICT)
async def add_channel(body: ChannelRequest, channels: Channels) -> ChannelResponse:
    """A Telegram chat or an e-mail address to be told of what your notification preferences name.

    A code goes there; send it to `…/confirm` within 15 minutes.
    """
    return ChannelResponse.model_validate(await channels.add_channel(body))


@router.get("")
async def list_channels(user: AccountHolder, session: Transaction) -> list[ChannelResponse]:
    """Your Telegram chats and e-mail addresses, oldest first."""
    rows = await repository.channels_of(session, user.user_id, webhooks=False)
    return [ChannelResponse.model_validate(row) for row in rows]


@router.post("/{channel_id}/confirm", responses={**_NOT_FOUND, **_CONFLICT})
async def confirm_channel(channel_id: UUID, body: ConfirmRequest, channels: Channels) -> ChannelResponse:
    """Prove that the channel is yours."""
    return ChannelResponse.model_validate(await channels.confirm(channel_id, body.code))


@router.delete("/{channel_id}", status_code=204, responses=_NOT_FOUND)
async def remove_channel(channel_id: UUID, channels: Channels) -> Response:
    """Tell this channel nothing more."""
    await channels.remove(channel_id, webhooks=False)
    return Response(status_code=204)


@router.get("/{channel_id}/deliveries", responses=_NOT_FOUND)
async def list_channel_deliveries(
    channel_id: UUID, channels: Channels, status: Status = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[DeliveryResponse]:
    """What it was told, the newest first, and what came of it. Kept for 30 days."""
    return await channels.deliveries(channel_id, status, cursor, limit, webhooks=False)
