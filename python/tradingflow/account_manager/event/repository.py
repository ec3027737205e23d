"""Stored contract events, as far as a user may see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, Select, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.db.models import ContractEvent, Vault


@dataclass(frozen=True)
class EventQuery:
    """`after` is the (block, log index) of the last event of the page before. Block bounds are inclusive.

    With `topics` the first topic must be one of them, whatever name the event is stored under. `arguments` holds, for
    each argument that is asked for, what the stored ones may contain.
    """

    chain_id: int
    contract: str | None = None
    name: str | None = None
    from_block: int | None = None
    to_block: int | None = None
    order: Literal["asc", "desc"] = "desc"
    after: tuple[int, int] | None = None
    topics: Sequence[bytes] | None = None
    arguments: Sequence[Sequence[Mapping[str, Any]]] = ()


async def is_foreign_vault(session: AsyncSession, user_id: UUID, chain_id: int, address: str) -> bool:
    owner = await session.scalar(select(Vault.user_id).where(Vault.chain_id == chain_id, Vault.address == address))
    return owner is not None and owner != user_id


async def find(session: AsyncSession, user_id: UUID, query: EventQuery, limit: int) -> list[ContractEvent]:
    """Events without those of other users' vaults."""
    foreign = select(Vault.address).where(Vault.chain_id == query.chain_id, Vault.user_id != user_id)
    statement = select(ContractEvent).where(
        ContractEvent.chain_id == query.chain_id, ContractEvent.address.not_in(foreign)
    )
    return list(await session.scalars(_bounded(statement, query).limit(limit)))


def _bounded(statement: Select[ContractEvent], query: EventQuery) -> Select[ContractEvent]:
    if query.contract is not None:
        statement = statement.where(ContractEvent.address == query.contract)
    if query.name is not None:
        statement = statement.where(_named(query))
    for possible in query.arguments:
        statement = statement.where(or_(*(ContractEvent.args.contains(pair) for pair in possible)))
    if query.from_block is not None:
        statement = statement.where(ContractEvent.block_number >= query.from_block)
    if query.to_block is not None:
        statement = statement.where(ContractEvent.block_number <= query.to_block)
    place = tuple_(ContractEvent.block_number, ContractEvent.log_index)
    if query.order == "asc":
        statement = statement.where(place > query.after) if query.after else statement
        return statement.order_by(ContractEvent.block_number, ContractEvent.log_index)
    statement = statement.where(place < query.after) if query.after else statement
    return statement.order_by(ContractEvent.block_number.desc(), ContractEvent.log_index.desc())


def _named(query: EventQuery) -> ColumnElement[bool]:
    return ContractEvent.name == query.name if query.topics is None else ContractEvent.topics[1].in_(query.topics)
