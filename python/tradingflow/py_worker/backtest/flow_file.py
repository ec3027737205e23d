"""A flow as it lies in a file: the body of `POST /flows/execute`, or the bare graph."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tradingflow.core.errors import InvalidInput

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class FlowFile:
    """`cycle_interval` is None in a bare graph."""

    flow_id: str
    cycle_interval: int | float | str | None
    graph: dict[str, Any]


def read_flow(path: Path) -> FlowFile:
    """Raises InvalidInput for what is no flow."""
    if not path.is_file():
        raise InvalidInput("no_such_file", f"{path} is not a file")
    if path.stat().st_size > MAX_BYTES:
        raise InvalidInput("flow_too_large", f"a flow file has at most {MAX_BYTES:,} bytes")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput("invalid_flow_json", f"{path.name} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput("invalid_flow_json", f"{path.name} holds no JSON object")
    if "flow_json" not in found:
        return FlowFile(path.stem, None, found)
    return FlowFile(str(found.get("flow_id", path.stem)), found.get("cycle_interval"), found["flow_json"])
