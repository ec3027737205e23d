"""The registry: tokens enter it by what the chain says of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.pagination import Page, cut, decode_cursor, encode_cursor
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.token import repository
from tradingflow.account_manager.token.metadata import read_metadata
from tradingflow.account_manager.token.schemas import TokenResponse
from tradingflow.core.errors import NotFound
from tradingflow.core.evm import parse_address
from tradingflow.db.models import Token


class TokenCursor(msgspec.Struct, frozen=True):
    address: str


async def register(session: AsyncSession, parts: Parts, chain_id: int, address: str) -> Token:
    """Read the token's metadata and keep it. Raises InvalidInput when it is no contract or the chain is unknown."""
    metadata = await read_metadata(parts.chain(chain_id), address)
    return await repository.save(session, chain_id, address, metadata)


async def ensure(session: AsyncSession, parts: Parts, chain_id: int, addresses: Collection[str]) -> dict[str, Token]:
    """Registry entries of all `addresses`; the missing ones are read from the chain first."""
    known = await repository.find(session, chain_id, addresses)
    missing = [address for address in addresses if address not in known]
    client = parts.chain(chain_id)
    answers = await asyncio.gather(*(read_metadata(client, address) for address in missing))
    for address, metadata in zip(missing, answers, strict=True):
        known[address] = await repository.save(session, chain_id, address, metadata)
    return known


async def read(session: AsyncSession, token_id: UUID) -> Token:
    token = await repository.get(session, token_id)
    if token is None:
        raise NotFound("token", token_id)
    return token


async def list_chain(session: AsyncSession, chain_id: int, cursor: str | None, limit: int) -> Page[TokenResponse]:
    key = decode_cursor(cursor, TokenCursor)
    rows = await repository.page(session, chain_id, parse_address(key.address) if key else None, limit + 1)
    tokens, more = cut(rows, limit)
    return Page(
        items=[TokenResponse.model_validate(token) for token in tokens],
        next_cursor=encode_cursor(TokenCursor(tokens[-1].address)) if more else None,
    )
