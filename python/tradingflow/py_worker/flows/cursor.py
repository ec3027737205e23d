"""Opaque cursors: the sort key of the last item of a page."""

from __future__ import annotations

import base64
import binascii
from typing import TypeVar

import msgspec

from tradingflow.core.errors import InvalidInput

Key = TypeVar("Key", int, str)
# Ids have up to 100 characters; a number this short fits PostgreSQL's bigint.
MAX_KEY_CHARS = {int: 18, str: 100}


def encode_cursor(key: int | str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).decode().rstrip("=")


def decode_cursor(cursor: str | None, kind: type[Key]) -> Key | None:
    """Raises InvalidInput for anything a page did not hand out."""
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key = msgspec.json.decode(raw, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise _invalid() from error
    if "\x00" in str(key) or len(str(key)) > MAX_KEY_CHARS[kind]:
        raise _invalid()
    return key


def _invalid() -> InvalidInput:
    return InvalidInput("invalid_cursor", "the cursor is not one this list handed out")
