from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from tradingflow.account_manager.auth.siwe import MAX_MESSAGE_BYTES
from tradingflow.account_manager.fields import ChainId, EvmAddressField, EvmAddressText, RequestModel, ResponseModel

# A contract wallet may answer for many keys: signatures of several kilobytes are in use.
MAX_SIGNATURE_HEX = 2 + 2 * 16_384


class NonceRequest(RequestModel):
    address: EvmAddressField
    chain_id: ChainId


class NonceResponse(ResponseModel):
    """`message` is ready to be signed as it is with `personal_sign`."""

    nonce: str
    message: str
    expires_at: datetime


class LoginRequest(RequestModel):
    message: str = Field(min_length=1, max_length=MAX_MESSAGE_BYTES, description="EIP-4361 message, exactly as signed")
    signature: str = Field(max_length=MAX_SIGNATURE_HEX, pattern=r"^0x([0-9a-fA-F]{2})+$")


class RefreshRequest(RequestModel):
    refresh_token: str = Field(min_length=1, max_length=256)


class TokenResponse(ResponseModel):
    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the scheme's name
    expires_in: int = Field(description="Seconds the access token lives")
    user_id: UUID


class JwksResponse(ResponseModel):
    """RFC 7517."""

    keys: list[dict[str, Any]]


class SessionResponse(ResponseModel):
    id: UUID
    wallet_address: EvmAddressText
    client: str | None = Field(description="What the signing-in program called itself")
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime
    is_current: bool


class ApiKeyRequest(RequestModel):
    """`scopes`: `read` looks, `trade` also changes; an API key never manages the account itself."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[\w .:@-]+$")
    scopes: tuple[Literal["read", "trade"], ...] = Field(min_length=1, max_length=2)
    expires_in_days: int = Field(ge=1, le=365)


class ApiKeyResponse(ResponseModel):
    id: UUID
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


class NewApiKeyResponse(ApiKeyResponse):
    key: str = Field(description="Shown this once; only its hash is kept")


class ExchangeRequest(RequestModel):
    api_key: str = Field(min_length=1, max_length=256)


class AccessTokenResponse(ResponseModel):
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the scheme's name
    expires_in: int
