from __future__ import annotations

from datetime import datetime
from uuid import UUID

from tradingflow.account_manager.fields import EvmAddressField, ResponseModel


class WalletResponse(ResponseModel):
    address: EvmAddressField
    created_at: datetime


class UserResponse(ResponseModel):
    """`wallet` is the one this session signed in with."""

    id: UUID
    wallet: EvmAddressField
    wallets: list[WalletResponse]
    created_at: datetime
