from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from tradingflow.account_manager.auth import api_keys, repository
from tradingflow.account_manager.auth.schemas import (
    AccessTokenResponse,
    ApiKeyRequest,
    ApiKeyResponse,
    ExchangeRequest,
    JwksResponse,
    LoginRequest,
    NewApiKeyResponse,
    NonceRequest,
    NonceResponse,
    RefreshRequest,
    SessionResponse,
    TokenResponse,
)
from tradingflow.account_manager.auth.service import AuthService
from tradingflow.account_manager.dependencies import AccountHolder, Reads, TheParts, Transaction
from tradingflow.web.errors import error_responses

router = APIRouter(tags=["sign-in"])

# What a user agent calls itself is kept to tell sessions apart, not to be a store of text.
MAX_CLIENT_CHARS = 200


async def limit_sign_in(request: Request, parts: TheParts) -> None:
    """Counts attempts by client address, never by the wallet named: its owner would be locked out by strangers."""
    await parts.limits.count(parts.limits.sign_in, request.client.host if request.client else "unknown")


_LIMITED = [Depends(limit_sign_in)]


@router.post("/auth/nonce", dependencies=_LIMITED, responses=error_responses(429, 503))
async def issue_nonce(body: NonceRequest, parts: TheParts, session: Transaction) -> NonceResponse:
    """A nonce for one wallet on one chain, and an EIP-4361 message ready to sign. Lives five minutes, works once."""
    return await AuthService(parts, session).issue_nonce(body.address, body.chain_id)


@router.post("/auth/login", dependencies=_LIMITED, responses=error_responses(401, 429, 503))
async def login(body: LoginRequest, request: Request, parts: TheParts, session: Transaction) -> TokenResponse:
    """Exchange a signed message for an access token and a refresh token; the first sign-in makes the account."""
    client = request.headers.get("user-agent", "")[:MAX_CLIENT_CHARS] or None
    return await AuthService(parts, session).login(body.message, body.signature, client)


@router.post("/auth/refresh", dependencies=_LIMITED, responses=error_responses(401, 429))
async def refresh(body: RefreshRequest, parts: TheParts, session: Transaction) -> TokenResponse:
    """Exchange a refresh token for a new pair. It works once; using it again ends the session."""
    return await AuthService(parts, session).refresh(body.refresh_token)


@router.post("/auth/logout", status_code=204, responses=error_responses(401, 403, 429))
async def logout(user: AccountHolder, parts: TheParts, session: Transaction) -> Response:
    """End this session: its refresh tokens stop working."""
    await AuthService(parts, session).logout(user)
    return Response(status_code=204)


@router.get("/.well-known/jwks.json")
async def jwks(parts: TheParts) -> JwksResponse:
    """Public keys that verify our access tokens (RFC 7517)."""
    return JwksResponse.model_validate(parts.signer.jwks())


@router.get("/auth/sessions", responses=error_responses(401, 403, 429))
async def list_sessions(user: AccountHolder, parts: TheParts, session: Reads) -> list[SessionResponse]:
    """The caller's living sessions, the last used first."""
    rows = await repository.sessions_of(session, user.user_id, parts.clock.now())
    fields = ("id", "wallet_address", "client", "created_at", "last_used_at", "expires_at")
    return [
        SessionResponse(**{f: getattr(row, f) for f in fields}, is_current=row.id == user.session_id) for row in rows
    ]


@router.delete("/auth/sessions/{session_id}", status_code=204, responses=error_responses(401, 403, 429, 404))
async def end_session(session_id: UUID, user: AccountHolder, parts: TheParts, session: Transaction) -> Response:
    """End one of the caller's sessions at once: its tokens stop working here."""
    await AuthService(parts, session).end_session(user.user_id, session_id)
    return Response(status_code=204)


@router.post("/auth/api-keys", status_code=201, responses=error_responses(401, 403, 429, 409))
async def create_api_key(
    body: ApiKeyRequest, user: AccountHolder, parts: TheParts, session: Transaction
) -> NewApiKeyResponse:
    """A key for a program. It is shown once; send it as `Authorization: Bearer tf_key_…`."""
    return await api_keys.create(session, parts, user, body)


@router.get("/auth/api-keys", responses=error_responses(401, 403, 429))
async def list_api_keys(user: AccountHolder, session: Reads) -> list[ApiKeyResponse]:
    """The caller's API keys, without the keys themselves."""
    return [ApiKeyResponse.model_validate(row) for row in await repository.api_keys_of(session, user.user_id)]


@router.delete("/auth/api-keys/{key_id}", status_code=204, responses=error_responses(401, 403, 429, 404))
async def revoke_api_key(key_id: UUID, user: AccountHolder, parts: TheParts, session: Transaction) -> Response:
    """End a key; it stops working at once."""
    await api_keys.revoke(session, parts, user.user_id, key_id)
    return Response(status_code=204)


@router.post("/auth/access-token", dependencies=_LIMITED, responses=error_responses(401, 429))
async def exchange_api_key(body: ExchangeRequest, parts: TheParts, session: Reads) -> AccessTokenResponse:
    """A short-lived access token with the scopes of an API key: how the key's program reaches the Worker."""
    principal = await api_keys.principal_of(session, body.api_key, parts.clock.now())
    return AccessTokenResponse(access_token=parts.signer.sign(principal), expires_in=parts.signer.ttl_s)
