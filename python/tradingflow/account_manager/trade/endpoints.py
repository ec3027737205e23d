from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from tradingflow.account_manager.dependencies import Reads
from tradingflow.account_manager.fields import ChainId, EvmAddressField, Hash32Field
from tradingflow.account_manager.pagination import Cursor, Limit, Page
from tradingflow.account_manager.trade import history
from tradingflow.account_manager.trade.schemas import TradeResponse
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import ERROR_RESPONSES

router = APIRouter(prefix="/trades", tags=["trades"], responses={s: ERROR_RESPONSES[s] for s in (401, 403)})


@router.get("")
async def list_trades(
    user: CurrentUser,
    session: Reads,
    flow_id: Annotated[str | None, Query(max_length=256)] = None,
    chain_id: Annotated[ChainId | None, Query()] = None,
    vault: Annotated[EvmAddressField | None, Query()] = None,
    status: Annotated[Literal["requested", "submitted", "completed", "failed"] | None, Query()] = None,
    created_from: Annotated[AwareDatetime | None, Query(description="Inclusive")] = None,
    created_to: Annotated[AwareDatetime | None, Query(description="Exclusive")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[TradeResponse]:
    """The caller's trades, newest first."""
    wanted = history.TradeFilter(flow_id, chain_id, vault, status, created_from, created_to)
    return await history.list_trades(session, user.user_id, wanted, cursor, limit)


@router.get("/{trade_id}", responses={404: ERROR_RESPONSES[404]})
async def read_trade(trade_id: Hash32Field, user: CurrentUser, session: Reads) -> TradeResponse:
    """One trade."""
    return await history.read_trade(session, user.user_id, trade_id)
