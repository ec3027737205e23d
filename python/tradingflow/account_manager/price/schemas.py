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
    """What one source says: `pool_spot` now, `pool_mean` over the last five minutes."""

    source: str
    price: DecimalField | None
    reason: str | None


class PriceResponse(ResponseModel):
    """Whole quote tokens for one whole token. `price` is null with a `reason` if sources are few, old or apart."""

    chain_id: int
    token: EvmAddressText
    quote_token: EvmAddressText | None
    price: DecimalField | None
    reason: str | None
    block_number: int
    as_of: datetime
    age_s: int = Field(description="How old the chain's latest block is")
    sources: list[SourcePrice]


class PriceBatchRequest(RequestModel):
    tokens: tuple[EvmAddressField, ...] = Field(min_length=1, max_length=50)
    max_age_s: int = Field(default=60, ge=1, le=86_400)
