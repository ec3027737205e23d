"""What neither text nor jsonb of PostgreSQL can hold: NUL, and half of a surrogate pair."""

from __future__ import annotations

import re
from typing import Any

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def storable_text(text: str) -> str:
    """`text` with such characters replaced."""
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def storable_json(value: Any) -> Any:
    """`value` with such characters replaced in every text and name, at any depth."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_json(name): storable_json(held) for name, held in value.items()}
    if isinstance(value, list):
        return [storable_json(held) for held in value]
    return value
