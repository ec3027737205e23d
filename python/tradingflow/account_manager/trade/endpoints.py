from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from tradingflow.account_manager.dependencies import TheParts
from tradingflow.account_manager.fields import ChainId, EvmAddressField, Hash32Field, Moment, RequestModel
from tradingflow.account_manager.hot_route import HotRoute
from tradingflow.account_manager.json_text import encode
from tradingflow.account_manager.pagination import MAX_CURSOR_CHARS, MAX_LIMIT, Page
from tradingflow.account_manager.trade import csv_export, history
from tradingflow.account_manager.trade.schemas import TradeResponse
from tradingflow.web.auth import CurrentUser
from tradingflow.web.errors import error_responses

# PostgreSQL's text holds no NUL.
NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f]*$"

router = APIRouter(prefix="/trades", tags=["trades"], responses=error_responses(401, 403, 429))
hot_router = APIRouter(
    route_class=HotRoute, prefix="/trades", tags=["trades"], responses=error_responses(401, 403, 429)
)


class TradeQuery(RequestModel):
    """All that is given must hold."""

    flow_id: str | None = Field(default=None, max_length=256, pattern=NO_CONTROL_CHARACTERS)
    chain_id: ChainId | None = None
    vault: EvmAddressField | None = None
    token: EvmAddressField | None = Field(default=None, description="Sold or bought")
    status: Literal["requested", "submitted", "completed", "failed"] | None = None
    created_from: Moment | None = Field(default=None, description="Inclusive")
    created_to: Moment | None = Field(default=None, description="Exclusive")

    def wanted(self) -> history.TradeFilter:
        return history.TradeFilter(
            self.flow_id, self.chain_id, self.vault, self.token, self.status, self.created_from, self.created_to
        )


class TradeListQuery(TradeQuery):
    cursor: str | None = Field(
        default=None, max_length=MAX_CURSOR_CHARS, description="`next_cursor` of the page before"
    )
    limit: int = Field(default=50, ge=1, le=MAX_LIMIT, description="Items a page")


@hot_router.get("", response_model=Page[TradeResponse])
async def list_trades(user: CurrentUser, parts: TheParts, query: Annotated[TradeListQuery, Query()]) -> bytes:
    """The caller's trades, newest first."""
    page = await history.list_trades(parts.hot, user.user_id, query.wanted(), query.cursor, query.limit)
    return encode({"items": page.items, "next_cursor": page.next_cursor})


@router.get("/export", response_class=StreamingResponse, responses={200: {"content": {"text/csv": {}}}})
async def export_trades(user: CurrentUser, parts: TheParts, query: Annotated[TradeQuery, Query()]) -> StreamingResponse:
    """The caller's trades as CSV, newest first; the columns are the fields of a trade."""
    rows = csv_export.export(parts.hot, user.user_id, query.wanted())
    headers = {"Content-Disposition": 'attachment; filename="trades.csv"'}
    return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/{trade_id}", responses=error_responses(404))
async def read_trade(trade_id: Hash32Field, user: CurrentUser, parts: TheParts) -> TradeResponse:
    """One trade."""
    return TradeResponse.model_validate(await history.read_trade(parts.hot, user.user_id, trade_id))
