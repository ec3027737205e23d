"""A user's trades as CSV (RFC 4180), a page of rows at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from uuid import UUID

from tradingflow.account_manager.trade import history
from tradingflow.account_manager.trade.schemas import TradeResponse
from tradingflow.db.engine import SessionFactory

ROWS_A_READ = 500
COLUMNS = tuple(TradeResponse.model_fields)
# A cell that begins so is a formula to a spreadsheet.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


async def export(reads: SessionFactory, user_id: UUID, wanted: history.TradeFilter) -> AsyncIterator[str]:
    """The header, then every trade the filter lets through, newest first."""
    yield _lines([COLUMNS])
    cursor: str | None = None
    while True:
        async with reads() as session:
            page = await history.list_trades(session, user_id, wanted, cursor, ROWS_A_READ)
        yield _lines([_cells(trade) for trade in page.items])
        if (cursor := page.next_cursor) is None:
            return


def _cells(trade: TradeResponse) -> list[str]:
    values = trade.model_dump(mode="json")
    return ["" if values[name] is None else _harmless(str(values[name])) for name in COLUMNS]


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _lines(rows: list[list[str]] | list[tuple[str, ...]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()
