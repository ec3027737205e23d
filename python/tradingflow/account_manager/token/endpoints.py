from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from tradingflow.account_manager.dependencies import Reads, TheParts, Transaction
from tradingflow.account_manager.fields import ChainId
from tradingflow.account_manager.pagination import Cursor, Limit, Page
from tradingflow.account_manager.token import service
from tradingflow.account_manager.token.schemas import TokenRequest, TokenResponse
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import ERROR_RESPONSES

router = APIRouter(prefix="/token", tags=["tokens"], responses={s: ERROR_RESPONSES[s] for s in (401, 403)})


@router.post("/", status_code=201, responses={503: ERROR_RESPONSES[503]})
async def register_token(body: TokenRequest, user: CurrentUser, parts: TheParts, session: Transaction) -> TokenResponse:
    """Read a token's symbol, name and decimals from the chain and keep them; again refreshes them."""
    token = await service.register(session, parts, body.chain_id, body.address)
    return TokenResponse.model_validate(token)


@router.get("/chain/{chain_id}")
async def list_tokens(
    chain_id: ChainId, user: CurrentUser, parts: TheParts, session: Reads, cursor: Cursor = None, limit: Limit = 50
) -> Page[TokenResponse]:
    """Registered tokens of a chain, in the order of their addresses."""
    parts.settings.chain(chain_id)
    return await service.list_chain(session, chain_id, cursor, limit)


@router.get("/{token_id}", responses={404: ERROR_RESPONSES[404]})
async def read_token(token_id: UUID, user: CurrentUser, session: Reads) -> TokenResponse:
    """One registered token."""
    return TokenResponse.model_validate(await service.read(session, token_id))
