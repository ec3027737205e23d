"""A flow's JSON as front ends send it, in one shape: snake or camel case, plain nodes or the visual editor's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tradingflow.py_worker.engine.problems import InvalidFlow, Problem

MAX_NODES = 200
MAX_EDGES = 2_000
IDENTIFIER = re.compile(r"[A-Za-z0-9_:-]{1,100}")
MAX_HANDLE_LENGTH = 100
IDENTIFIER_RULE = "1 to 100 letters, digits, '_', '-' or ':' (ids are words of routing keys)"


@dataclass(frozen=True, slots=True)
class NodeEntry:
    """One node as written. `values` are what the editor's fields hold: parameters and literal inputs mixed."""

    id: str
    type: str
    config: Mapping[str, Any]
    literals: Mapping[str, Any]
    values: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EdgeEntry:
    source: str
    source_handle: str
    target: str
    target_handle: str


@dataclass(slots=True)
class FlowDocument:
    nodes: list[NodeEntry] = field(default_factory=list)
    edges: list[EdgeEntry] = field(default_factory=list)


def read_document(flow_json: Any) -> FlowDocument:
    """Raises InvalidFlow when the JSON is not a list of nodes and a list of edges."""
    problems: list[Problem] = []
    document = FlowDocument()
    nodes, edges = _lists(flow_json)
    for position, raw in enumerate(nodes):
        _collect(problems, document.nodes, lambda raw=raw, position=position: _node(raw, position))
    for position, raw in enumerate(edges):
        _collect(problems, document.edges, lambda raw=raw, position=position: _edge(raw, position))
    if problems:
        raise InvalidFlow(problems)
    return document


def _collect(problems: list[Problem], found: list[Any], read: Any) -> None:
    try:
        found.append(read())
    except InvalidFlow as error:
        problems.extend(error.problems)


def _lists(flow_json: Any) -> tuple[list[Any], list[Any]]:
    if not isinstance(flow_json, Mapping):
        raise _refuse("invalid_flow_json", 'flow_json is an object with the lists "nodes" and "edges"')
    nodes, edges = flow_json.get("nodes"), flow_json.get("edges", [])
    if not isinstance(nodes, list) or not isinstance(edges, list) or not nodes:
        raise _refuse("invalid_flow_json", 'flow_json needs a list "nodes" with at least one node and a list "edges"')
    if len(nodes) > MAX_NODES or len(edges) > MAX_EDGES:
        raise _refuse("flow_too_large", f"a flow has at most {MAX_NODES} nodes and {MAX_EDGES} edges")
    return nodes, edges


def _node(raw: Any, position: int) -> NodeEntry:
    if not isinstance(raw, Mapping):
        raise _refuse("invalid_node", f"entry {position} of nodes is not an object")
    node_id, kind = raw.get("id"), raw.get("type")
    if not isinstance(node_id, str) or not IDENTIFIER.fullmatch(node_id):
        raise _refuse("invalid_node_id", f"the id of entry {position} of nodes must be {IDENTIFIER_RULE}")
    if not isinstance(kind, str) or not kind:
        raise _refuse("invalid_node", 'a node needs a "type"', node_id)
    config, literals = raw.get("config", {}), raw.get("inputs", {})
    if not isinstance(config, Mapping) or not isinstance(literals, Mapping):
        raise _refuse("invalid_config", "config and inputs are objects", node_id)
    return NodeEntry(node_id, kind, dict(config), dict(literals), _editor_values(raw.get("data"), node_id), raw)


def _editor_values(data: Any, node_id: str) -> dict[str, Any]:
    """`data.inputs[].value` of the visual editor, by id; a field nobody filled in is left out."""
    if not isinstance(data, Mapping) or "inputs" not in data:
        return {}
    fields = data["inputs"]
    if not isinstance(fields, list) or not all(isinstance(f, Mapping) and isinstance(f.get("id"), str) for f in fields):
        raise _refuse("invalid_node", "data.inputs is a list of fields, each with an id", node_id)
    return {f["id"]: f["value"] for f in fields if f.get("value") not in (None, "")}


def _edge(raw: Any, position: int) -> EdgeEntry:
    if not isinstance(raw, Mapping):
        raise _refuse("invalid_edge", f"entry {position} of edges is not an object")
    return EdgeEntry(
        _end(raw, position, "source"),
        _handle(raw, position, "source_handle", "sourceHandle"),
        _end(raw, position, "target"),
        _handle(raw, position, "target_handle", "targetHandle"),
    )


def _handle(raw: Mapping[str, Any], position: int, *names: str) -> str:
    handle = _end(raw, position, *names)
    if len(handle) > MAX_HANDLE_LENGTH:
        raise _refuse(
            "invalid_edge",
            f"the {names[0]} of entry {position} of edges may have at most {MAX_HANDLE_LENGTH} characters",
        )
    return handle


def _end(raw: Mapping[str, Any], position: int, *names: str) -> str:
    value = next((raw[name] for name in names if raw.get(name) is not None), None)
    if not isinstance(value, str) or not value:
        raise _refuse("invalid_edge", f"entry {position} of edges needs {' or '.join(names)}")
    return value


def _refuse(code: str, message: str, node: str | None = None) -> InvalidFlow:
    return InvalidFlow([Problem(code, message, node)])
