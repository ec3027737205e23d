"""A handful of node types for graphs that need no node."""

from __future__ import annotations

from typing import Any

import pytest

from tradingflow.py_worker.engine.graph import Graph, build_graph
from tradingflow.py_worker.engine.spec import NodeSpec, Port


def ports(*ports: Port) -> dict[str, Port]:
    return {port.name: port for port in ports}


def _config_problems(config: Any) -> list[tuple[str, str]]:
    return [] if "bad" not in config else [("bad", "is not a field")]


SPECS = {
    "start": NodeSpec("start", {}, ports(Port("out", "any"))),
    "number": NodeSpec("number", {}, ports(Port("out", "number"))),
    "text": NodeSpec("text", {}, ports(Port("out", "text"))),
    "step": NodeSpec(
        "step",
        ports(Port("in", "any", required=False)),
        ports(Port("out", "any")),
        param_names=frozenset({"size"}),
        config_problems=_config_problems,
    ),
    "needs": NodeSpec("needs", ports(Port("in", "number")), ports(Port("out", "number"))),
    "many": NodeSpec("many", ports(Port("in", "any", required=False, many=True)), ports(Port("out", "list"))),
    "open": NodeSpec("open", {}, {}, open_inputs=True, open_outputs=True),
}


def node(node_id: str, kind: str = "step", **more: Any) -> dict[str, Any]:
    return {"id": node_id, "type": kind, **more}


def edge(source: str, target: str, source_handle: str = "out", target_handle: str = "in") -> dict[str, Any]:
    return {"source": source, "source_handle": source_handle, "target": target, "target_handle": target_handle}


def graph_of(nodes: list[Any], edges: list[Any]) -> Graph:
    return build_graph({"nodes": nodes, "edges": edges}, SPECS)


@pytest.fixture
def specs() -> dict[str, NodeSpec]:
    return SPECS
