"""The kit's node types as the pure engine sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tradingflow.py_worker.engine.spec import NodeSpec, Port
from tradingflow.py_worker.kit import HandleSpec
from tradingflow.py_worker.kit.registry import AnyNode


def node_specs(types: Mapping[str, AnyNode]) -> dict[str, NodeSpec]:
    """By type name; an alias has the spec of its node, so a graph holds the node's own type name."""
    return {name: _spec(node) for name, node in types.items()}


def _spec(node: AnyNode) -> NodeSpec:
    def problems(config: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [(problem.field, problem.message) for problem in node.validate_params(config)]

    return NodeSpec(
        type=node.type,
        inputs=_ports(node.input_handles()),
        outputs=_ports(node.output_handles()),
        open_inputs=node.has_open_inputs(),
        open_outputs=node.has_open_outputs(),
        param_names=frozenset(field.alias or name for name, field in node.Params.model_fields.items()),
        config_problems=problems,
        default_timeout_s=node.default_timeout.total_seconds(),
    )


def _ports(handles: Mapping[str, HandleSpec]) -> dict[str, Port]:
    return {name: Port(name, handle.kind, handle.required, handle.many) for name, handle in handles.items()}
