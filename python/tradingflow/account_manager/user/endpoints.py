from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from tradingflow.account_manager.auth.schemas import NonceResponse
from tradingflow.account_manager.dependencies import AccountHolder, Reads, TheParts, Transaction
from tradingflow.account_manager.hot_route import HotRoute
from tradingflow.account_manager.json_text import encode
from tradingflow.account_manager.plan.repository import plan_of
from tradingflow.account_manager.user import repository, service
from tradingflow.account_manager.user.preferences import Preferences, PreferencesPatch
from tradingflow.account_manager.user.schemas import (
    CredentialRequest,
    CredentialResponse,
    DeleteAccountRequest,
    LinkRequest,
    PlanResponse,
    UnlinkNonceRequest,
    UnlinkRequest,
    UserResponse,
    WalletNonceRequest,
    WalletResponse,
)
from tradingflow.account_manager.user.wallets import WalletService
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/users/me", tags=["account"], responses=error_responses(401, 403, 429))
hot_router = APIRouter(
    route_class=HotRoute, prefix="/users/me", tags=["account"], responses=error_responses(401, 403, 429)
)
_EXPORT: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"schema": {"type": "object"}}}}}
_CONFLICT = error_responses(409)
_NOT_FOUND = error_responses(404)


@hot_router.get("", response_model=UserResponse)
async def read_me(user: CurrentUser, parts: TheParts) -> bytes:
    """The account of the caller and its wallets."""
    return encode(await service.read_account(parts.hot, user))


@router.delete("", status_code=204, responses=_CONFLICT)
async def delete_me(body: DeleteAccountRequest, user: AccountHolder, parts: TheParts, session: Transaction) -> Response:
    """Delete the account and everything kept for it. Vaults stay on the chain, and their owner's."""
    await service.delete_account(session, parts, user, body.confirm)
    return Response(status_code=204)


@router.get("/plan")
async def read_plan(user: CurrentUser, session: Reads) -> PlanResponse:
    """How much this account may have."""
    return PlanResponse.model_validate(await plan_of(session, user.user_id))


@router.get("/export", response_class=StreamingResponse, responses=_EXPORT)
async def export_me(user: AccountHolder, parts: TheParts, session: Transaction) -> StreamingResponse:
    """A copy of everything kept for the account; secrets are left out."""
    exported = await service.export_account(session, parts.hot, user)
    flows = await repository.versions_of_flows(session, user.user_id)
    pieces = service.with_history(parts, user.user_id, exported, flows)
    return StreamingResponse(pieces, media_type="application/json")


@router.get("/wallets")
async def list_wallets(user: CurrentUser, parts: TheParts) -> list[WalletResponse]:
    """The account's wallets, oldest first. Each can sign in, and own vaults."""
    account = await service.read_account(parts.hot, user)
    return UserResponse.model_validate(account).wallets


@router.post("/wallets/nonce")
async def issue_link_nonce(
    body: WalletNonceRequest, user: AccountHolder, parts: TheParts, session: Transaction
) -> NonceResponse:
    """A message that links a wallet to this account once that wallet has signed it."""
    return await WalletService(parts, session, user).link_nonce(body)


@router.post("/wallets", status_code=201, responses=_CONFLICT)
async def link_wallet(body: LinkRequest, user: AccountHolder, parts: TheParts, session: Transaction) -> WalletResponse:
    """Link the wallet that signed the message."""
    return WalletResponse.model_validate(await WalletService(parts, session, user).link(body))


@router.post("/wallets/unlink/nonce")
async def issue_unlink_nonce(
    body: UnlinkNonceRequest, user: AccountHolder, parts: TheParts, session: Transaction
) -> NonceResponse:
    """A message that unlinks a wallet once a wallet of this account has signed it."""
    return await WalletService(parts, session, user).unlink_nonce(body)


@router.post("/wallets/unlink", status_code=204, responses={**_CONFLICT, **_NOT_FOUND})
async def unlink_wallet(body: UnlinkRequest, user: AccountHolder, parts: TheParts, session: Transaction) -> Response:
    """Unlink a wallet; what is signed in with it is signed out."""
    await WalletService(parts, session, user).unlink(body)
    return Response(status_code=204)


@router.get("/preferences")
async def read_preferences(user: CurrentUser, session: Reads) -> Preferences:
    """Preferences, defaults included."""
    return await service.read_preferences(session, user.user_id)


@router.patch("/preferences")
async def change_preferences(body: PreferencesPatch, user: AccountHolder, session: Transaction) -> Preferences:
    """Change what is given; null puts a preference back to its default."""
    return await service.change_preferences(session, user.user_id, body)


@router.get("/credentials")
async def list_credentials(user: AccountHolder, session: Reads) -> list[CredentialResponse]:
    """Names of the secrets kept for nodes; the secrets cannot be read."""
    return [CredentialResponse.model_validate(row) for row in await repository.credentials(session, user.user_id)]


@router.post("/credentials", status_code=201, responses=_CONFLICT)
async def keep_credential(
    body: CredentialRequest, user: AccountHolder, parts: TheParts, session: Transaction
) -> CredentialResponse:
    """Keep a secret under a name, or replace the one of that name."""
    return CredentialResponse.model_validate(await service.keep_credential(session, parts, user.user_id, body))


@router.delete("/credentials/{credential_id}", status_code=204, responses=_NOT_FOUND)
async def delete_credential(credential_id: UUID, user: AccountHolder, session: Transaction) -> Response:
    """Forget a secret."""
    await service.delete_credential(session, user.user_id, credential_id)
    return Response(status_code=204)
