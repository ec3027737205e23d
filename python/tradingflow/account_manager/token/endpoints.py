from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from tradingflow.account_manager.dependencies import Reads, TheParts, Transaction
from tradingflow.account_manager.fields import ChainId
from tradingflow.account_manager.pagination import Cursor, Limit, Page
from tradingflow.account_manager.token import repository, service
from tradingflow.account_manager.token.schemas import TokenBatchRequest, TokenRequest, TokenResponse
from tradingflow.core.errors import InvalidInput
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

IncludeSpam = Annotated[bool, Query(description="Also tokens whose words look like spam")]

router = APIRouter(prefix="/token", tags=["tokens"], responses=error_responses(401, 403, 429))


@router.post("/", status_code=201, responses=error_responses(503))
async def register_token(body: TokenRequest, user: CurrentUser, parts: TheParts, session: Transaction) -> TokenResponse:
    """Read a token's symbol, name and decimals from the chain and keep them; again refreshes them."""
    parts.settings.chain(body.chain_id)
    token = await parts.tokens.register(session, body.chain_id, body.address)
    return TokenResponse.model_validate(token)


@router.get("/chain/{chain_id}")
async def list_tokens(
    chain_id: ChainId,
    user: CurrentUser,
    parts: TheParts,
    session: Reads,
    include_spam: IncludeSpam = False,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[TokenResponse]:
    """Registered tokens of a chain, in the order of their addresses."""
    parts.settings.chain(chain_id)
    return await service.list_chain(session, chain_id, cursor, limit, include_spam=include_spam)


@router.post("/batch", status_code=201, responses=error_responses(503))
async def register_tokens(body: TokenBatchRequest, user: CurrentUser, parts: TheParts) -> list[TokenResponse]:
    """Register several tokens of a chain, in the order asked; those known already are not read again."""
    parts.settings.chain(body.chain_id)
    known = await parts.tokens.ensure(parts.sessions, body.chain_id, body.addresses)
    if missing := [address for address in body.addresses if address not in known]:
        raise InvalidInput("not_a_contract", f"there is no contract at {', '.join(missing)} on chain {body.chain_id}")
    return [TokenResponse.model_validate(known[address]) for address in body.addresses]


@router.get("/search")
async def search_tokens(
    user: CurrentUser,
    session: Reads,
    q: Annotated[str, Query(min_length=1, max_length=64, pattern=r"^[\x20-\x7e]+$")],
    chain_id: Annotated[ChainId | None, Query()] = None,
    include_spam: IncludeSpam = False,
    limit: Limit = 50,
) -> list[TokenResponse]:
    """Registered tokens by address, or by the beginning of symbol or name."""
    found = await repository.search(session, q, chain_id, limit, include_spam=include_spam)
    return [TokenResponse.model_validate(token) for token in found]


@router.get("/{token_id}", responses=error_responses(404))
async def read_token(token_id: UUID, user: CurrentUser, session: Reads) -> TokenResponse:
    """One registered token."""
    return TokenResponse.model_validate(await service.read(session, token_id))
