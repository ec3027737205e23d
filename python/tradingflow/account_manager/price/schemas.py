from __future__ import annotations

from datetime import datetime

from pydantic import Field

from tradingflow.account_manager.fields import (
    DecimalField,
    EvmAddressField,
    EvmAddressText,
    RequestModel,
    ResponseModel,
)


class SourcePrice(ResponseModel):
    """What one source says, and how old that is.

    `pool_spot` is the configured pools at the latest block, `pool_mean` their mean of the last five minutes; other
    sources are markets by name.
    """

    source: str
    price: DecimalField | None
    reason: str | None = Field(description="Why the source has no price that counts")
    as_of: datetime
    age_s: int


class PriceResponse(ResponseModel):
    """Whole quote tokens for one whole token.

    `price` is null, with a `reason` and its `detail`, if the sources are too few, stale, or more than 2 % apart.
    """

    chain_id: int
    token: EvmAddressText
    quote_token: EvmAddressText | None
    price: DecimalField | None
    reason: str | None = Field(description="too_few_sources, stale, sources_differ or no_quote_token")
    detail: str | None
    as_of: datetime | None = Field(description="Of the oldest source that counted")
    age_s: int | None
    sources: list[SourcePrice]


class PriceBatchRequest(RequestModel):
    tokens: tuple[EvmAddressField, ...] = Field(min_length=1, max_length=50)
    max_age_s: int = Field(default=60, ge=1, le=86_400)


class PricePointResponse(ResponseModel):
    """What a token cost at a moment; null with the reason when that could not be known."""

    as_of: datetime = Field(validation_alias="taken_at")
    price: DecimalField | None
    reason: str | None
