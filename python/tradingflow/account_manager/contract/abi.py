"""The events of a user's ABI, in the one form they are stored in. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tradingflow.chain.decoder import EventSpec, Param, check_names, event_from_abi
from tradingflow.chain.registry import USERS_ABI_PREFIX
from tradingflow.core.errors import InvalidInput

MAX_EVENTS = 500
# An ABI is hostile input to a recursive reader, and its arrays of pointers let a short log stand for many values.
MAX_PARAMS = 64
MAX_DEPTH = 8
MAX_DIMENSIONS = 4
MAX_FIXED_ITEMS = 1_024
MAX_TYPE_CHARS = 64
_FIXED = re.compile(r"\[(\d+)\]")
KIND_DIGITS = 32


def events_of(abi: Sequence[Mapping[str, Any]]) -> tuple[EventSpec, ...]:
    """The events a JSON ABI declares. Raises InvalidInput when there are none, too many, or one is malformed."""
    declared = [entry for entry in abi if entry.get("type") == "event"]
    for entry in declared:
        _check_size(entry)
    events = tuple(event_from_abi(entry) for entry in declared)
    for event in events:
        check_names(event)
    for param in (param for event in events for param in event.params):
        _check_arrays(param)
    if not 0 < len(events) <= MAX_EVENTS:
        raise InvalidInput("invalid_abi", f"the ABI declares {len(events)} events; allowed: 1 to {MAX_EVENTS}")
    return events


def entries_of(events: Sequence[EventSpec]) -> list[dict[str, Any]]:
    """The JSON ABI of these events and nothing else, in an order of its own."""
    entries = [
        {"type": "event", "name": e.name, "anonymous": e.anonymous, "inputs": [_input(p) for p in e.params]}
        for e in events
    ]
    return sorted(entries, key=json.dumps)


def kind_of(entries: Sequence[Mapping[str, Any]]) -> str:
    """The kind's name is the hash of its content: nobody can give another meaning to a kind somebody uses."""
    content = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    return USERS_ABI_PREFIX + hashlib.sha256(content.encode()).hexdigest()[:KIND_DIGITS]


def _check_size(entry: Mapping[str, Any]) -> None:
    """Raises InvalidInput for an event with more, or deeper, arguments than any contract has."""
    seen = 0
    level: list[Any] = [entry.get("inputs")]
    for _ in range(MAX_DEPTH):
        params = [param for params in level if isinstance(params, list) for param in params if isinstance(param, dict)]
        seen += len(params)
        level = [param["components"] for param in params if param.get("components")]
        if seen > MAX_PARAMS or any(len(str(param.get("type"))) > MAX_TYPE_CHARS for param in params):
            break
        if not level:
            return
    raise InvalidInput(
        "invalid_abi",
        f"an event has at most {MAX_PARAMS} arguments, structs {MAX_DEPTH} deep, types of {MAX_TYPE_CHARS} characters",
    )


def _check_arrays(param: Param) -> None:
    sizes = [int(size) for size in _FIXED.findall(param.canonical_type)]
    if param.canonical_type.count("[") > MAX_DIMENSIONS or math.prod(sizes) > MAX_FIXED_ITEMS:
        raise InvalidInput(
            "invalid_abi", f"{param.name}: arrays have at most {MAX_DIMENSIONS} dimensions, {MAX_FIXED_ITEMS} items"
        )


def _input(param: Param) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": param.name, "type": param.type, "indexed": param.indexed}
    return plain | ({"components": [_input(part) for part in param.components]} if param.components else {})
