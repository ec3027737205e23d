from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.contract import repository as contracts
from tradingflow.account_manager.contract.service import events_of_kind
from tradingflow.account_manager.event import repository
from tradingflow.account_manager.event.repository import EventQuery
from tradingflow.account_manager.event.schemas import EventResponse
from tradingflow.account_manager.pagination import Page, cut, decode_cursor, encode_cursor
from tradingflow.chain.decoder import Undecodable
from tradingflow.chain.registry import ContractAbi
from tradingflow.core.errors import InvalidInput, NotFound
from tradingflow.db.models import ContractEvent


class EventCursor(msgspec.Struct, frozen=True):
    block: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    log: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


async def search(
    session: AsyncSession, user_id: UUID, query: EventQuery, cursor: str | None, limit: int
) -> Page[EventResponse]:
    """Raises NotFound when the contract is another user's vault, InvalidInput for arguments it cannot search."""
    if query.contract and await repository.is_foreign_vault(session, user_id, query.chain_id, query.contract):
        raise NotFound("contract", query.contract)
    key = decode_cursor(cursor, EventCursor)
    query = replace(query, after=(key.block, key.log) if key else None)
    own_abi = await _own_abi(session, user_id, query)
    if own_abi is not None:
        if query.arguments:
            raise InvalidInput("other_abi", "this contract's events are stored by another ABI; ask without arguments")
        query = replace(query, topics=own_abi.topics_of(query.name) if query.name else None)
    rows, more = cut(await repository.find(session, user_id, query, limit + 1), limit)
    last = rows[-1] if more else None
    return Page(
        items=[_response(row, own_abi) for row in rows],
        next_cursor=encode_cursor(EventCursor(last.block_number, last.log_index)) if last else None,
    )


async def _own_abi(session: AsyncSession, user_id: UUID, query: EventQuery) -> ContractAbi | None:
    """What the caller reads the contract's events by, where that is not what they were stored by."""
    if query.contract is None:
        return None
    row = await contracts.find_by_address(session, user_id, query.chain_id, query.contract)
    if row is None or row[1] is None or row[0].kind == row[1].kind:
        return None
    return ContractAbi(row[0].kind, await events_of_kind(session, row[0].kind))


def _response(event: ContractEvent, own_abi: ContractAbi | None) -> EventResponse:
    kind, name, args, reason = event.kind, event.name, event.args, event.undecoded_reason
    if own_abi is not None:
        kind, name, args, reason = own_abi.kind, None, None, None
        try:
            name, args = own_abi.decode(event.topics, event.data)
        except Undecodable as error:
            reason = error.reason
    return EventResponse(
        chain_id=event.chain_id,
        block_number=event.block_number,
        block_hash=event.block_hash,
        log_index=event.log_index,
        transaction_hash=event.transaction_hash,
        address=event.address,
        kind=kind,
        name=name,
        args=args,
        undecoded_reason=reason,
        topics=["0x" + topic.hex() for topic in event.topics],
        data="0x" + event.data.hex(),
        block_time=event.block_time,
    )
