"""Cursor pagination: a page ends with an opaque cursor that says where the next one starts."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Query
from pydantic import Field

from tradingflow.account_manager.fields import ResponseModel, is_storable
from tradingflow.core.errors import InvalidInput

Item = TypeVar("Item")
Key = TypeVar("Key", bound=msgspec.Struct)

MAX_LIMIT = 500
MAX_CURSOR_CHARS = 512
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items a page")]
Cursor = Annotated[str | None, Query(max_length=MAX_CURSOR_CHARS, description="`next_cursor` of the page before")]


class Page(ResponseModel, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = Field(description="Pass as `cursor` for the next page; null on the last one")


def encode_cursor(key: msgspec.Struct) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode_cursor(cursor: str | None, key: type[Key]) -> Key | None:
    """Raises InvalidInput for anything a page did not hand out."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        decoded = msgspec.json.decode(raw, type=key)
    except (binascii.Error, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidInput("invalid_cursor", "the cursor is not one this list handed out") from error
    if any(isinstance(value, datetime) and not is_storable(value) for value in msgspec.structs.astuple(decoded)):
        raise InvalidInput("invalid_cursor", "the cursor holds a time no row can have")
    return decoded


def cut(rows: list[Any], limit: int) -> tuple[list[Any], bool]:
    """Split rows asked for with `limit + 1` into the page and whether there is more."""
    return rows[:limit], len(rows) > limit
