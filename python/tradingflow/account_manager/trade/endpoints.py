from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from tradingflow.account_manager.dependencies import Reads, TheParts
from tradingflow.account_manager.fields import ChainId, EvmAddressField, Hash32Field, Moment
from tradingflow.account_manager.pagination import Cursor, Limit, Page
from tradingflow.account_manager.trade import csv_export, history
from tradingflow.account_manager.trade.schemas import TradeResponse
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

# PostgreSQL's text holds no NUL.
NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f]*$"

router = APIRouter(prefix="/trades", tags=["trades"], responses=error_responses(401, 403, 429))


async def _filter(
    flow_id: Annotated[str | None, Query(max_length=256, pattern=NO_CONTROL_CHARACTERS)] = None,
    chain_id: Annotated[ChainId | None, Query()] = None,
    vault: Annotated[EvmAddressField | None, Query()] = None,
    status: Annotated[Literal["requested", "submitted", "completed", "failed"] | None, Query()] = None,
    created_from: Annotated[Moment | None, Query(description="Inclusive")] = None,
    created_to: Annotated[Moment | None, Query(description="Exclusive")] = None,
) -> history.TradeFilter:
    return history.TradeFilter(flow_id, chain_id, vault, status, created_from, created_to)


Wanted = Annotated[history.TradeFilter, Depends(_filter)]


@router.get("")
async def list_trades(
    user: CurrentUser, session: Reads, wanted: Wanted, cursor: Cursor = None, limit: Limit = 50
) -> Page[TradeResponse]:
    """The caller's trades, newest first."""
    return await history.list_trades(session, user.user_id, wanted, cursor, limit)


@router.get("/export", response_class=StreamingResponse, responses={200: {"content": {"text/csv": {}}}})
async def export_trades(user: CurrentUser, parts: TheParts, wanted: Wanted) -> StreamingResponse:
    """The caller's trades as CSV, newest first; the columns are the fields of a trade."""
    rows = csv_export.export(parts.reads, user.user_id, wanted)
    headers = {"Content-Disposition": 'attachment; filename="trades.csv"'}
    return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/{trade_id}", responses=error_responses(404))
async def read_trade(trade_id: Hash32Field, user: CurrentUser, session: Reads) -> TradeResponse:
    """One trade."""
    return await history.read_trade(session, user.user_id, trade_id)
