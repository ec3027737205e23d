"""A user's trades as CSV (RFC 4180), a page of rows at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from tradingflow.account_manager.trade import history
from tradingflow.account_manager.trade.schemas import TradeResponse
from tradingflow.db.reads import ReadPool

COLUMNS = tuple(TradeResponse.model_fields)
# A cell that begins so is a formula to a spreadsheet.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


async def export(reads: ReadPool, user_id: UUID, wanted: history.TradeFilter) -> AsyncIterator[str]:
    """The header, then every trade the filter lets through, newest first."""
    yield _lines([COLUMNS])
    async for page in history.all_trades(reads, user_id, wanted):
        yield _lines([[_cell(item[name]) for name in COLUMNS] for item in page])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _lines(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()
