from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field

from tradingflow.account_manager.fields import (
    ChainId,
    EvmAddressField,
    EvmAddressText,
    RequestModel,
    ResponseModel,
)
from tradingflow.account_manager.notification.topics import Topic
from tradingflow.core.errors import InvalidInput
from tradingflow.outbound.client import check_url

MAX_TOPICS = 20
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}")
_CHAT_ID = re.compile(r"-?[1-9][0-9]{0,18}|@[A-Za-z][A-Za-z0-9_]{4,31}")


def _url(url: str) -> str:
    try:
        check_url(url)
    except InvalidInput as error:
        raise ValueError(error.detail) from error
    if not url.isascii() or not url.isprintable() or "#" in url:
        raise ValueError("a URL is printable ASCII without a fragment")
    return url


WebhookUrl = Annotated[str, Field(max_length=2048), AfterValidator(_url)]
Description = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Topics = Annotated[tuple[Topic, ...], Field(max_length=MAX_TOPICS)]


class SubscriptionRequest(RequestModel):
    """Events of one contract, all or those of one name, from now on.

    `instant` tells of an event as soon as it is stored, and takes it back with `contract.event_reverted` should a
    reorg undo it; `final` tells of it once no reorg can.
    """

    chain_id: ChainId
    address: EvmAddressField
    name: str | None = Field(default=None, max_length=128, pattern=r"^[A-Za-z_$][\w$]*$")
    certainty: Literal["instant", "final"] = "final"


class SubscriptionResponse(ResponseModel):
    """`next_block`: every event below it was told of."""

    id: UUID
    chain_id: int
    address: EvmAddressText
    name: str | None
    certainty: str
    next_block: int


class WebhookRequest(RequestModel):
    """`topics` beside the contract events of `/webhooks/{id}/events`; null follows your notification preferences."""

    url: WebhookUrl
    description: Description = ""
    topics: Topics | None = None


class WebhookPatch(RequestModel):
    """Only what is given changes. `paused` stops deliveries; what happens meanwhile is not told of later."""

    url: WebhookUrl | None = None
    description: Description | None = None
    topics: Topics | None = None
    paused: bool | None = None


class WebhookResponse(ResponseModel):
    id: UUID
    url: str
    description: str
    topics: list[str] | None
    status: str
    paused_reason: str | None
    failing_since: datetime | None = Field(description="Since when every delivery has failed")
    created_at: datetime


class NewWebhookResponse(WebhookResponse):
    secret: str = Field(description="Signs the deliveries (Standard Webhooks); shown this once")


class SecretResponse(ResponseModel):
    secret: str = Field(description="Signs the deliveries from now on; shown this once")


class ChannelRequest(RequestModel):
    """`target` is a Telegram chat (its number, or @name of a channel) or an e-mail address.

    A code is sent there; until it is confirmed nothing else is. What is told is set in the notification preferences.
    """

    kind: Literal["telegram", "email"]
    target: str = Field(min_length=1, max_length=254)


def check_target(request: ChannelRequest) -> str:
    """The target as it is kept. Raises InvalidInput."""
    if request.kind == "email":
        if not _EMAIL.fullmatch(request.target):
            raise InvalidInput("invalid_target", "an e-mail address looks like name@example.com")
        return request.target.lower()
    if not _CHAT_ID.fullmatch(request.target):
        raise InvalidInput("invalid_target", "a Telegram chat is a number, or @name of a channel")
    return request.target


class ConfirmRequest(RequestModel):
    code: str = Field(pattern=r"^[0-9]{8}$", description="As it was sent to the channel")


class ChannelResponse(ResponseModel):
    id: UUID
    kind: str
    target: str
    status: str
    paused_reason: str | None
    failing_since: datetime | None
    created_at: datetime


class DeliveryResponse(ResponseModel):
    """`id` is the receiver's `webhook-id`. `last_answer` is what came of the last try."""

    id: UUID
    topic: str
    status: str
    tries: int
    due_at: datetime | None = Field(description="When it is tried next; null once it is over")
    last_tried_at: datetime | None
    last_answer: dict[str, Any] | None
    delivered_at: datetime | None
    created_at: datetime
    payload: dict[str, Any]
