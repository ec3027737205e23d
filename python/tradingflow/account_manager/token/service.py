"""Reading the registry."""

from __future__ import annotations

from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.pagination import Page, cut, decode_cursor, encode_cursor
from tradingflow.account_manager.token import repository
from tradingflow.account_manager.token.schemas import TokenResponse
from tradingflow.core.errors import NotFound
from tradingflow.core.evm import parse_address
from tradingflow.db.models import Token


class TokenCursor(msgspec.Struct, frozen=True):
    address: str


async def read(session: AsyncSession, token_id: UUID) -> Token:
    token = await repository.get(session, token_id)
    if token is None:
        raise NotFound("token", token_id)
    return token


async def list_chain(
    session: AsyncSession, chain_id: int, cursor: str | None, limit: int, *, include_spam: bool
) -> Page[TokenResponse]:
    key = decode_cursor(cursor, TokenCursor)
    after = parse_address(key.address) if key else None
    rows = await repository.page(session, chain_id, after, limit + 1, include_spam=include_spam)
    tokens, more = cut(rows, limit)
    return Page(
        items=[TokenResponse.model_validate(token) for token in tokens],
        next_cursor=encode_cursor(TokenCursor(tokens[-1].address)) if more else None,
    )
