from __future__ import annotations

from datetime import datetime
from uuid import UUID

from tradingflow.account_manager.fields import ChainId, EvmAddressField, RequestModel, ResponseModel


class TokenRequest(RequestModel):
    chain_id: ChainId
    address: EvmAddressField


class TokenResponse(ResponseModel):
    """`symbol`, `name` and `decimals` are null when the contract does not say."""

    id: UUID
    chain_id: int
    address: EvmAddressField
    symbol: str | None
    name: str | None
    decimals: int | None
    created_at: datetime
