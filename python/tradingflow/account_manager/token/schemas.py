from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from tradingflow.account_manager.fields import ChainId, EvmAddressField, EvmAddressText, RequestModel, ResponseModel


class TokenRequest(RequestModel):
    chain_id: ChainId
    address: EvmAddressField


class TokenBatchRequest(RequestModel):
    chain_id: ChainId
    addresses: tuple[EvmAddressField, ...] = Field(min_length=1, max_length=50)


class TokenResponse(ResponseModel):
    """`symbol`, `name` and `decimals` are null when the contract does not say."""

    id: UUID
    chain_id: int
    address: EvmAddressText
    symbol: str | None
    name: str | None
    decimals: int | None
    is_spam: bool
    spam_reason: str | None = Field(
        description="`link` or `lure` in its words, a `lookalike` symbol, or an `imitation` of a configured token"
    )
    created_at: datetime
