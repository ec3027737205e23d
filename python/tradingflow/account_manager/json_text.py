"""JSON of rows as the driver gives them, in the very form the response models describe."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any

import orjson

from tradingflow.core.evm import address_from_bytes

_checksummed = lru_cache(maxsize=65_536)(address_from_bytes)


def encode(value: Any) -> bytes:
    """Times end in Z."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def hash_text(raw: bytes | None) -> str | None:
    return None if raw is None else "0x" + raw.hex()


def address_text(raw: bytes | None) -> str | None:
    return None if raw is None else _checksummed(raw)


def plain_text(value: Decimal) -> str:
    """Without exponent and without trailing zeros."""
    text = str(value)
    if "E" in text:
        text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
