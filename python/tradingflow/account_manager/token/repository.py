from __future__ import annotations

from collections.abc import Collection
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


async def save(session: AsyncSession, chain_id: int, address: str, metadata: TokenMetadata) -> Token:
    """Insert, or refresh what is there; two that race end with one row."""
    values = {"symbol": metadata.symbol, "name": metadata.name, "decimals": metadata.decimals}
    statement = (
        insert(Token)
        .values(id=uuid4(), chain_id=chain_id, address=address, **values)
        .on_conflict_do_update(index_elements=["chain_id", "address"], set_=values)
        .returning(Token)
    )
    return (await session.scalars(statement, execution_options={"populate_existing": True})).one()


async def page(session: AsyncSession, chain_id: int, after: str | None, limit: int) -> list[Token]:
    """Tokens of a chain in the order of their addresses, those behind `after`."""
    statement = select(Token).where(Token.chain_id == chain_id).order_by(Token.address).limit(limit)
    if after is not None:
        statement = statement.where(Token.address > after)
    return list(await session.scalars(statement))


async def search(session: AsyncSession, text: str, chain_id: int | None, limit: int) -> list[Token]:
    """By address, or by the beginning of symbol or name, shorter symbols first."""
    statement = select(Token).where(_matches(text))
    if chain_id is not None:
        statement = statement.where(Token.chain_id == chain_id)
    order = (func.length(func.coalesce(Token.symbol, "")), Token.symbol, Token.chain_id, Token.address)
    return list(await session.scalars(statement.order_by(*order).limit(limit)))


def _matches(text: str) -> ColumnElement[bool]:
    try:
        return Token.address == parse_address(text)
    except InvalidInput:
        return or_(Token.symbol.istartswith(text, autoescape=True), Token.name.istartswith(text, autoescape=True))
