"""A user's trades, for reading."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from sqlalchemy import Text, bindparam, cast, select, tuple_
from sqlalchemy.orm import aliased

from tradingflow.account_manager.json_text import address_text, hash_text, plain_text
from tradingflow.account_manager.pagination import cut, decode_cursor, encode_cursor
from tradingflow.core.errors import NotFound
from tradingflow.core.evm import parse_hash32
from tradingflow.db.models import Flow, Token, Trade
from tradingflow.db.reads import PreparedRead, ReadPool

ROWS_A_READ = 500
# Prices are for people and for comparing with a market; amounts carry the exact figures.
_PRICES = Context(prec=28)


@dataclass(frozen=True)
class TradeFilter:
    """All that is given must hold. `flow_id` is the owner's own name of the flow."""

    flow_id: str | None = None
    chain_id: int | None = None
    vault: str | None = None
    token: str | None = None
    status: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None


class TradeCursor(msgspec.Struct, frozen=True):
    created_at: datetime
    id: str


@dataclass(frozen=True)
class TradePage:
    """`items` are ready for JSON, as TradeResponse describes them."""

    items: list[dict[str, Any]]
    next_cursor: str | None


async def list_trades(reads: ReadPool, user_id: UUID, wanted: TradeFilter, cursor: str | None, limit: int) -> TradePage:
    """Newest first."""
    values = {name: value for name, value in vars(wanted).items() if value is not None}
    key = decode_cursor(cursor, TradeCursor)
    if key is not None:
        values |= {"after_time": key.created_at, "after_id": parse_hash32(key.id)}
    read = list_statement(frozenset(values))
    rows, more = cut(await reads.fetch(read, user_id=user_id, limit=limit + 1, **values), limit)
    last = TradeCursor(rows[-1]["created_at"], "0x" + rows[-1]["id"].hex()) if more else None
    return TradePage([_item(row) for row in rows], encode_cursor(last) if last else None)


async def all_trades(reads: ReadPool, user_id: UUID, wanted: TradeFilter) -> AsyncIterator[list[dict[str, Any]]]:
    """Every trade the filter lets through, newest first, so many at a time as are read at once."""
    cursor: str | None = None
    while True:
        page = await list_trades(reads, user_id, wanted, cursor, ROWS_A_READ)
        yield page.items
        if (cursor := page.next_cursor) is None:
            return


async def read_trade(reads: ReadPool, user_id: UUID, trade_id: str) -> dict[str, Any]:
    rows = await reads.fetch(_one_statement(), user_id=user_id, id=trade_id)
    if not rows:
        raise NotFound("trade", trade_id)
    return _item(rows[0])


@lru_cache
def list_statement(given: frozenset[str]) -> PreparedRead:
    """The statement for the filters that are given: one that left conditions open would be planned for none of them."""
    statement = _joined().order_by(Trade.created_at.desc(), Trade.id.desc()).limit(bindparam("limit"))
    conditions = {
        "flow_id": Flow.flow_id == bindparam("flow_id"),
        "chain_id": Trade.chain_id == bindparam("chain_id"),
        "vault": Trade.vault_address == bindparam("vault"),
        "token": (Trade.token_in == bindparam("token")) | (Trade.token_out == bindparam("token")),
        "status": Trade.status == bindparam("status"),
        "created_from": Trade.created_at >= bindparam("created_from"),
        "created_to": Trade.created_at < bindparam("created_to"),
    }
    statement = statement.where(*(condition for name, condition in conditions.items() if name in given))
    if "after_id" in given:
        place = tuple_(bindparam("after_time", type_=Trade.created_at.type), bindparam("after_id", type_=Trade.id.type))
        statement = statement.where(tuple_(Trade.created_at, Trade.id) < place)
    return PreparedRead(statement)


@lru_cache
def _one_statement() -> PreparedRead:
    return PreparedRead(_joined().where(Trade.id == bindparam("id")))


def _joined() -> Any:
    """Amounts as text: they are shown as they are, and reading NUMERIC is dear."""
    token_in, token_out = aliased(Token), aliased(Token)
    return (
        select(
            Trade.id,
            Flow.flow_id,
            Trade.version,
            Trade.cycle,
            Trade.node_id,
            Trade.chain_id,
            Trade.vault_address,
            Trade.router,
            Trade.token_in,
            Trade.token_out,
            token_in.symbol.label("symbol_in"),
            token_out.symbol.label("symbol_out"),
            cast(Trade.amount_in, Text).label("amount_in"),
            cast(Trade.min_amount_out, Text).label("min_amount_out"),
            cast(Trade.amount_out, Text).label("amount_out"),
            Trade.slippage_bps,
            Trade.status,
            Trade.transaction_hash,
            Trade.block_number,
            Trade.failure_code,
            Trade.failure_detail,
            Trade.created_at,
            Trade.settled_at,
            token_in.decimals.label("decimals_in"),
            token_out.decimals.label("decimals_out"),
        )
        .join(Flow, Flow.id == Trade.flow_pk)
        .outerjoin(token_in, (token_in.chain_id == Trade.chain_id) & (token_in.address == Trade.token_in))
        .outerjoin(token_out, (token_out.chain_id == Trade.chain_id) & (token_out.address == Trade.token_out))
        .where(Trade.user_id == bindparam("user_id"))
    )


def _item(row: asyncpg.Record | Sequence[Any]) -> dict[str, Any]:
    (
        trade_id,
        flow_id,
        version,
        cycle,
        node_id,
        chain_id,
        vault,
        router,
        token_in,
        token_out,
        symbol_in,
        symbol_out,
        amount_in,
        min_amount_out,
        amount_out,
        slippage_bps,
        status,
        transaction_hash,
        block_number,
        failure_code,
        failure_detail,
        created_at,
        settled_at,
        decimals_in,
        decimals_out,
    ) = row
    return {
        "id": hash_text(trade_id),
        "flow_id": flow_id,
        "version": version,
        "cycle": cycle,
        "node_id": node_id,
        "chain_id": chain_id,
        "vault_address": address_text(vault),
        "router": address_text(router),
        "token_in": address_text(token_in),
        "token_out": address_text(token_out),
        "token_in_symbol": symbol_in,
        "token_out_symbol": symbol_out,
        "amount_in": amount_in,
        "min_amount_out": min_amount_out,
        "amount_out": amount_out,
        "slippage_bps": slippage_bps,
        "status": status,
        "price": _price(amount_in, decimals_in, amount_out, decimals_out),
        "transaction_hash": hash_text(transaction_hash),
        "block_number": block_number,
        "failure_code": failure_code,
        "failure_detail": failure_detail,
        "created_at": created_at,
        "settled_at": settled_at,
    }


def _price(amount_in: str, decimals_in: int | None, amount_out: str | None, decimals_out: int | None) -> str | None:
    if amount_out is None or decimals_in is None or decimals_out is None:
        return None
    price = _PRICES.divide(Decimal(amount_out), Decimal(amount_in))
    if decimals_in != decimals_out:
        price = price.scaleb(decimals_in - decimals_out, _PRICES)
    return plain_text(price)
