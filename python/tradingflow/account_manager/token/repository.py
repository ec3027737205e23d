from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.token.metadata import TokenMetadata
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address
from tradingflow.db.models import Token


async def get(session: AsyncSession, token_id: UUID) -> Token | None:
    return await session.get(Token, token_id)


async def find(session: AsyncSession, chain_id: int, addresses: Collection[str]) -> dict[str, Token]:
    """The registered ones among `addresses`, by address."""
    rows = await session.scalars(select(Token).where(Token.chain_id == chain_id, Token.address.in_(addresses)))
    return {token.address: token for token in rows}


async def save(
    session: AsyncSession, chain_id: int, address: str, metadata: TokenMetadata, spam_reason: str | None
) -> Token:
    """Insert, or refresh what is there; two that race end with one row."""
    values = {
        "symbol": metadata.symbol,
        "name": metadata.name,
        "decimals": metadata.decimals,
        "spam_reason": spam_reason,
        "read_at": func.now(),
    }
    statement = (
        insert(Token)
        .values(id=uuid4(), chain_id=chain_id, address=address, **values)
        .on_conflict_do_update(index_elements=["chain_id", "address"], set_=values)
        .returning(Token)
    )
    return (await session.scalars(statement, execution_options={"populate_existing": True})).one()


async def worth_pricing(session: AsyncSession, chain_id: int, limit: int) -> list[str]:
    """Addresses of registered tokens that are not taken for spam, oldest first."""
    statement = (
        select(Token.address)
        .where(Token.chain_id == chain_id, Token.spam_reason.is_(None))
        .order_by(Token.created_at, Token.address)
        .limit(limit)
    )
    return list(await session.scalars(statement))


async def read_longest_ago(session: AsyncSession, chain_id: int, before: datetime, limit: int) -> list[Token]:
    """Tokens last read from the chain before a moment, the longest ago first."""
    statement = (
        select(Token)
        .where(Token.chain_id == chain_id, Token.read_at < before)
        .order_by(Token.read_at, Token.id)
        .limit(limit)
    )
    return list(await session.scalars(statement))


async def page(
    session: AsyncSession, chain_id: int, after: str | None, limit: int, *, include_spam: bool
) -> list[Token]:
    """Tokens of a chain in the order of their addresses, those behind `after`."""
    statement = select(Token).where(Token.chain_id == chain_id).order_by(Token.address).limit(limit)
    if not include_spam:
        statement = statement.where(Token.spam_reason.is_(None))
    if after is not None:
        statement = statement.where(Token.address > after)
    return list(await session.scalars(statement))


async def search(
    session: AsyncSession, text: str, chain_id: int | None, limit: int, *, include_spam: bool
) -> list[Token]:
    """By address, or by the beginning of symbol or name, shorter symbols first. An address finds spam too."""
    statement = select(Token).where(_matches(text))
    if not include_spam:
        statement = statement.where(or_(Token.spam_reason.is_(None), Token.address == _address_or_none(text)))
    if chain_id is not None:
        statement = statement.where(Token.chain_id == chain_id)
    order = (func.length(func.coalesce(Token.symbol, "")), Token.symbol, Token.chain_id, Token.address)
    return list(await session.scalars(statement.order_by(*order).limit(limit)))


def _matches(text: str) -> ColumnElement[bool]:
    if (address := _address_or_none(text)) is not None:
        return Token.address == address
    return or_(Token.symbol.istartswith(text, autoescape=True), Token.name.istartswith(text, autoescape=True))


def _address_or_none(text: str) -> str | None:
    try:
        return parse_address(text)
    except InvalidInput:
        return None
