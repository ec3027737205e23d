"""All node types: ours, one module each in `py_worker.nodes`, and third parties' by the entry-point group."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType, ModuleType
from typing import Any

from tradingflow.core.errors import InvariantBroken
from tradingflow.py_worker.kit.handles import HandleSpec
from tradingflow.py_worker.kit.node import Node

ENTRY_POINT_GROUP = "tradingflow.nodes"
AnyNode = Node[Any, Any, Any]


@cache
def node_types() -> Mapping[str, AnyNode]:
    """Type name (and alias) to the node. Raises InvariantBroken when two nodes claim one name."""
    found: dict[str, AnyNode] = {}
    for node in _all_nodes():
        for name in (node.type, *node.aliases):
            if name in found:
                raise InvariantBroken("node_type_twice", f"two nodes claim the type {name!r}")
            found[name] = node
    return MappingProxyType(found)


def _all_nodes() -> Iterator[AnyNode]:
    from tradingflow.py_worker import nodes

    for module in pkgutil.iter_modules(nodes.__path__, nodes.__name__ + "."):
        yield from nodes_in(importlib.import_module(module.name))
    for point in entry_points(group=ENTRY_POINT_GROUP):
        yield _plugged_in(point)


def _plugged_in(point: EntryPoint) -> AnyNode:
    """Somebody else's node. A broken one stops the start: a flow that names it must not run without it."""
    try:
        node: AnyNode = point.load()()
    except Exception as error:  # somebody else's code
        raise InvariantBroken(
            "node_plugin_broken", f"the node {point.value} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(node, Node):
        raise InvariantBroken("node_plugin_broken", f"{point.value} is no subclass of tradingflow.py_worker.kit.Node")
    return node


def nodes_in(module: ModuleType) -> Iterator[AnyNode]:
    """An instance of every node a module defines."""
    for _, found in inspect.getmembers(module, inspect.isclass):
        if found.__module__ == module.__name__ and issubclass(found, Node) and "type" in vars(found):
            yield found()


def catalog() -> list[dict[str, Any]]:
    """Every type as `GET /nodes/types` shows it: enough for a front end to draw the form and the handles."""
    unique = {node.type: node for node in node_types().values()}
    return [describe(unique[name]) for name in sorted(unique)]


def describe(node: AnyNode) -> dict[str, Any]:
    """One catalog entry."""
    return {
        "type": node.type,
        "aliases": list(node.aliases),
        "title": node.title,
        "description": node.description,
        "category": node.category,
        "config_schema": node.Params.model_json_schema(),
        "inputs": [_handle(spec) for spec in node.input_handles().values()],
        "outputs": [_handle(spec) for spec in node.output_handles().values()],
        "open_inputs": node.has_open_inputs(),
        "open_outputs": node.has_open_outputs(),
        "default_timeout_s": node.default_timeout.total_seconds(),
        "example": dict(node.example),
    }


def _handle(spec: HandleSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "kind": spec.kind,
        "required": spec.required,
        "many": spec.many,
        "description": spec.description,
    }
