from __future__ import annotations

from fastapi import APIRouter, Request, Response

from tradingflow.account_manager.auth.schemas import (
    JwksResponse,
    LoginRequest,
    NonceRequest,
    NonceResponse,
    RefreshRequest,
    TokenResponse,
)
from tradingflow.account_manager.auth.service import AuthService
from tradingflow.account_manager.dependencies import TheParts, Transaction
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import ERROR_RESPONSES

router = APIRouter(tags=["sign-in"])

# What a user agent calls itself is kept to tell sessions apart, not to be a store of text.
MAX_CLIENT_CHARS = 200


@router.post("/auth/nonce", responses={503: ERROR_RESPONSES[503]})
async def issue_nonce(body: NonceRequest, parts: TheParts, session: Transaction) -> NonceResponse:
    """A nonce for one wallet on one chain, and an EIP-4361 message ready to sign. Lives five minutes, works once."""
    return await AuthService(parts, session).issue_nonce(body.address, body.chain_id)


@router.post("/auth/login", responses={s: ERROR_RESPONSES[s] for s in (401, 503)})
async def login(body: LoginRequest, request: Request, parts: TheParts, session: Transaction) -> TokenResponse:
    """Exchange a signed message for an access token and a refresh token; the first sign-in makes the account."""
    client = request.headers.get("user-agent", "")[:MAX_CLIENT_CHARS] or None
    return await AuthService(parts, session).login(body.message, body.signature, client)


@router.post("/auth/refresh", responses={401: ERROR_RESPONSES[401]})
async def refresh(body: RefreshRequest, parts: TheParts, session: Transaction) -> TokenResponse:
    """Exchange a refresh token for a new pair. It works once; using it again ends the session."""
    return await AuthService(parts, session).refresh(body.refresh_token)


@router.post("/auth/logout", status_code=204, responses={401: ERROR_RESPONSES[401]})
async def logout(user: CurrentUser, parts: TheParts, session: Transaction) -> Response:
    """End this session: its refresh tokens stop working."""
    await AuthService(parts, session).logout(user)
    return Response(status_code=204)


@router.get("/.well-known/jwks.json")
async def jwks(parts: TheParts) -> JwksResponse:
    """Public keys that verify our access tokens (RFC 7517)."""
    return JwksResponse.model_validate(parts.signer.jwks())
