"""A user's trades, for reading."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from typing import TypeAlias
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, Row, Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from tradingflow.account_manager.pagination import Page, cut, decode_cursor, encode_cursor
from tradingflow.account_manager.trade.schemas import TradeResponse
from tradingflow.core.errors import NotFound
from tradingflow.core.evm import parse_hash32
from tradingflow.core.money import to_human
from tradingflow.db.models import Flow, Token, Trade

_In = aliased(Token)
_Out = aliased(Token)
# Prices are for people and for comparing with a market; amounts carry the exact figures.
PRICE_DIGITS = 28
TradeRow: TypeAlias = Row[Trade, str, str | None, int | None, str | None, int | None]
TradeSelect: TypeAlias = Select[Trade, str, str | None, int | None, str | None, int | None]


@dataclass(frozen=True)
class TradeFilter:
    """All that is given must hold. `flow_id` is the owner's own name of the flow."""

    flow_id: str | None = None
    chain_id: int | None = None
    vault: str | None = None
    status: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


class TradeCursor(msgspec.Struct, frozen=True):
    created_at: datetime
    id: str


async def list_trades(
    session: AsyncSession, user_id: UUID, wanted: TradeFilter, cursor: str | None, limit: int
) -> Page[TradeResponse]:
    """Newest first."""
    key = decode_cursor(cursor, TradeCursor)
    rows, more = cut(await _find(session, user_id, wanted, key, limit + 1), limit)
    last: Trade | None = rows[-1][0] if more else None
    return Page(
        items=[_response(row) for row in rows],
        next_cursor=encode_cursor(TradeCursor(last.created_at, last.id)) if last else None,
    )


async def read_trade(session: AsyncSession, user_id: UUID, trade_id: str) -> TradeResponse:
    row = (await session.execute(_joined(user_id).where(Trade.id == trade_id))).one_or_none()
    if row is None:
        raise NotFound("trade", trade_id)
    return _response(row)


async def _find(
    session: AsyncSession, user_id: UUID, wanted: TradeFilter, after: TradeCursor | None, limit: int
) -> list[TradeRow]:
    statement = _joined(user_id).order_by(Trade.created_at.desc(), Trade.id.desc()).limit(limit)
    for condition in _conditions(wanted):
        statement = statement.where(condition)
    if after is not None:
        place = (after.created_at, parse_hash32(after.id))
        statement = statement.where(tuple_(Trade.created_at, Trade.id) < place)
    return list((await session.execute(statement)).all())


def _joined(user_id: UUID) -> TradeSelect:
    return (
        select(Trade, Flow.flow_id, _In.symbol, _In.decimals, _Out.symbol, _Out.decimals)
        .join(Flow, Flow.id == Trade.flow_pk)
        .outerjoin(_In, (_In.chain_id == Trade.chain_id) & (_In.address == Trade.token_in))
        .outerjoin(_Out, (_Out.chain_id == Trade.chain_id) & (_Out.address == Trade.token_out))
        .where(Trade.user_id == user_id)
    )


def _conditions(wanted: TradeFilter) -> list[ColumnElement[bool]]:
    conditions = [
        column == value
        for column, value in (
            (Flow.flow_id, wanted.flow_id),
            (Trade.chain_id, wanted.chain_id),
            (Trade.vault_address, wanted.vault),
            (Trade.status, wanted.status),
        )
        if value is not None
    ]
    if wanted.created_from is not None:
        conditions.append(Trade.created_at >= wanted.created_from)
    if wanted.created_to is not None:
        conditions.append(Trade.created_at < wanted.created_to)
    return conditions


def _response(row: TradeRow) -> TradeResponse:
    trade, flow_id, symbol_in, decimals_in, symbol_out, decimals_out = row
    return TradeResponse(
        id=trade.id,
        flow_id=flow_id,
        version=trade.version,
        cycle=trade.cycle,
        node_id=trade.node_id,
        chain_id=trade.chain_id,
        vault_address=trade.vault_address,
        router=trade.router,
        token_in=trade.token_in,
        token_out=trade.token_out,
        token_in_symbol=symbol_in,
        token_out_symbol=symbol_out,
        amount_in=trade.amount_in,
        min_amount_out=trade.min_amount_out,
        amount_out=trade.amount_out,
        slippage_bps=trade.slippage_bps,
        status=trade.status,
        price=_price(trade, decimals_in, decimals_out),
        transaction_hash=trade.transaction_hash,
        block_number=trade.block_number,
        failure_code=trade.failure_code,
        failure_detail=trade.failure_detail,
        created_at=trade.created_at,
        settled_at=trade.settled_at,
    )


def _price(trade: Trade, decimals_in: int | None, decimals_out: int | None) -> Decimal | None:
    if trade.amount_out is None or decimals_in is None or decimals_out is None:
        return None
    with localcontext() as context:
        context.prec = PRICE_DIGITS
        return to_human(trade.amount_out, decimals_out) / to_human(trade.amount_in, decimals_in)
