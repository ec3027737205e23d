"""What the engine knows of a node type: its handles, and how to judge its config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

ConfigProblems = Callable[[Mapping[str, Any]], list[tuple[str, str]]]
"""Judges a config; each problem is (field, sentence)."""

ERROR_HANDLE = "error"
"""The output handle a node has in addition when its `on_error` is `route`."""


@dataclass(frozen=True, slots=True)
class Port:
    """One handle. `many`: takes several edges, its value is the list of what came in the order of the edges."""

    name: str
    kind: str
    required: bool = True
    many: bool = False


def _no_problems(_: Mapping[str, Any]) -> list[tuple[str, str]]:
    return []


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A node type. Open inputs or outputs take edges at handles of any name, of kind `any`."""

    type: str
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    open_inputs: bool = False
    open_outputs: bool = False
    param_names: frozenset[str] = frozenset()
    config_problems: ConfigProblems = field(default=_no_problems)
    default_timeout_s: float = 30.0

    def input(self, handle: str) -> Port | None:
        if (port := self.inputs.get(handle)) is not None:
            return port
        return Port(handle, "any", required=False) if self.open_inputs else None

    def output(self, handle: str) -> Port | None:
        if (port := self.outputs.get(handle)) is not None:
            return port
        return Port(handle, "any", required=False) if self.open_outputs else None


def kinds_fit(source: str, target: str) -> bool:
    """Whether a value of kind `source` may travel to a handle of kind `target`."""
    return source == target or "any" in (source, target)
