from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, SecretStr

from tradingflow.account_manager.auth.schemas import MAX_SIGNATURE_HEX
from tradingflow.account_manager.auth.siwe import MAX_MESSAGE_BYTES
from tradingflow.account_manager.fields import ChainId, EvmAddressField, EvmAddressText, RequestModel, ResponseModel


class WalletResponse(ResponseModel):
    address: EvmAddressText
    created_at: datetime


class UserResponse(ResponseModel):
    """`wallet` is the one this session signed in with."""

    id: UUID
    wallet: EvmAddressText
    wallets: list[WalletResponse]
    created_at: datetime


class WalletNonceRequest(RequestModel):
    """`address` is the wallet to link, or the linked wallet that agrees to an unlinking."""

    address: EvmAddressField
    chain_id: ChainId


class UnlinkNonceRequest(WalletNonceRequest):
    unlink: EvmAddressField = Field(description="The wallet to unlink")


class LinkRequest(RequestModel):
    message: str = Field(min_length=1, max_length=MAX_MESSAGE_BYTES, description="From …/wallets/nonce, as signed")
    signature: str = Field(max_length=MAX_SIGNATURE_HEX, pattern=r"^0x([0-9a-fA-F]{2})+$")


class UnlinkRequest(LinkRequest):
    address: EvmAddressField = Field(description="The wallet to unlink")


CredentialName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]


class CredentialRequest(RequestModel):
    """A secret for nodes, which refer to it by name. It can be replaced and deleted, never read back."""

    name: CredentialName
    secret: SecretStr = Field(min_length=1, max_length=8192)


class CredentialResponse(ResponseModel):
    id: UUID
    name: str
    created_at: datetime
    updated_at: datetime


class DeleteAccountRequest(RequestModel):
    confirm: EvmAddressField = Field(description="The signed-in wallet's address, to rule out accidents")


class PlanResponse(ResponseModel):
    """The most of each that the account may have; `history_blocks` is how far back a new contract is read."""

    name: str
    api_keys: int
    credentials: int
    wallets: int
    contracts: int
    history_blocks: int
    channels: int
    event_subscriptions: int
    notices_per_day: int
