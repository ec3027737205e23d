from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from tradingflow.account_manager.dependencies import Reads, TheParts
from tradingflow.account_manager.event import service
from tradingflow.account_manager.event.arguments import MAX_ARGUMENTS, parse_arguments
from tradingflow.account_manager.event.repository import EventQuery
from tradingflow.account_manager.event.schemas import EventResponse
from tradingflow.account_manager.fields import BlockNumber, ChainId, EvmAddressField
from tradingflow.account_manager.pagination import Cursor, Limit, Page
from tradingflow.core.errors import InvalidInput
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

router = APIRouter(prefix="/events", tags=["events"], responses=error_responses(401, 403, 429, 404))


@router.get("")
async def search_events(
    user: CurrentUser,
    parts: TheParts,
    session: Reads,
    chain_id: Annotated[ChainId, Query()],
    contract: Annotated[EvmAddressField | None, Query()] = None,
    name: Annotated[str | None, Query(max_length=128, pattern=r"^\w+$", description="with `contract` only")] = None,
    from_block: Annotated[BlockNumber | None, Query()] = None,
    to_block: Annotated[BlockNumber | None, Query()] = None,
    argument: Annotated[
        list[str] | None,
        Query(max_length=MAX_ARGUMENTS, description="`name:value`, with `contract` only; all that are given must hold"),
    ] = None,
    order: Annotated[Literal["asc", "desc"], Query()] = "desc",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[EventResponse]:
    """Stored contract events; those of other users' vaults are left out.

    Events of a contract you registered are decoded by the ABI you gave.
    """
    parts.settings.chain(chain_id)
    if name is not None and contract is None:
        raise InvalidInput("contract_missing", "a name can be asked for within one contract; give `contract`")
    if argument and contract is None:
        raise InvalidInput("contract_missing", "arguments can be asked for within one contract; give `contract`")
    arguments = parse_arguments(argument or ())
    query = EventQuery(chain_id, contract, name, from_block, to_block, order, arguments=arguments)
    return await service.search(session, user.user_id, query, cursor, limit)
