from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.event import repository
from tradingflow.account_manager.event.repository import EventQuery
from tradingflow.account_manager.event.schemas import EventResponse
from tradingflow.account_manager.pagination import Page, cut, decode_cursor, encode_cursor
from tradingflow.core.errors import NotFound
from tradingflow.db.models import ContractEvent


class EventCursor(msgspec.Struct, frozen=True):
    block: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    log: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


async def search(
    session: AsyncSession, user_id: UUID, query: EventQuery, cursor: str | None, limit: int
) -> Page[EventResponse]:
    """Raises NotFound when the contract is another user's vault."""
    if query.contract and await repository.is_foreign_vault(session, user_id, query.chain_id, query.contract):
        raise NotFound("contract", query.contract)
    key = decode_cursor(cursor, EventCursor)
    query = replace(query, after=(key.block, key.log) if key else None)
    rows, more = cut(await repository.find(session, user_id, query, limit + 1), limit)
    last = rows[-1] if more else None
    return Page(
        items=[_response(row) for row in rows],
        next_cursor=encode_cursor(EventCursor(last.block_number, last.log_index)) if last else None,
    )


def _response(event: ContractEvent) -> EventResponse:
    return EventResponse(
        chain_id=event.chain_id,
        block_number=event.block_number,
        block_hash=event.block_hash,
        log_index=event.log_index,
        transaction_hash=event.transaction_hash,
        address=event.address,
        kind=event.kind,
        name=event.name,
        args=event.args,
        undecoded_reason=event.undecoded_reason,
        topics=["0x" + topic.hex() for topic in event.topics],
        data="0x" + event.data.hex(),
        block_time=event.block_time,
    )
