"""A cursor nobody was handed is a 422, whatever it holds."""

from __future__ import annotations

import base64
from datetime import datetime

import msgspec
import pytest

from tradingflow.account_manager.event.service import EventCursor
from tradingflow.account_manager.pagination import decode_cursor
from tradingflow.core.errors import InvalidInput


class TimeCursor(msgspec.Struct, frozen=True):
    created_at: datetime


def _cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_no_row_can_have_is_refused(time: str) -> None:
    with pytest.raises(InvalidInput):
        decode_cursor(_cursor(f'{{"created_at":"{time}"}}'), TimeCursor)


@pytest.mark.parametrize("position", ['{"block":9223372036854775808,"log":0}', '{"block":0,"log":2147483648}'])
def test_a_position_no_column_can_hold_is_refused(position: str) -> None:
    with pytest.raises(InvalidInput):
        decode_cursor(_cursor(position), EventCursor)


def test_a_cursor_that_nests_without_end_is_refused() -> None:
    with pytest.raises(InvalidInput):
        decode_cursor(_cursor("[" * 100_000), EventCursor)
