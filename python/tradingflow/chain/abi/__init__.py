"""Contract ABIs by name, shipped as `<Name>.json` (a bare ABI list each)."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def load_abi(name: str) -> list[dict[str, Any]]:
    """The ABI called `name`, e.g. "Vault". Raises FileNotFoundError for an unknown name."""
    text = resources.files(__package__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    abi: list[dict[str, Any]] = json.loads(text)
    return abi
