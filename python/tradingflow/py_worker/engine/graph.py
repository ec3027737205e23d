"""Build → validate → freeze: the graph a cycle runs on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tradingflow.py_worker.engine.document import EdgeEntry, FlowDocument, NodeEntry, read_document
from tradingflow.py_worker.engine.policy import InvalidPolicy, NodePolicy, parse_policy
from tradingflow.py_worker.engine.problems import InvalidFlow, Problem
from tradingflow.py_worker.engine.spec import ERROR_HANDLE, NodeSpec, Port, kinds_fit


@dataclass(frozen=True, slots=True)
class Edge:
    """Ends are positions in `Graph.nodes`."""

    source: int
    source_handle: str
    target: int
    target_handle: str


@dataclass(frozen=True, slots=True)
class GraphNode:
    """`literals` are input values written into the flow; edges win over them."""

    index: int
    id: str
    type: str
    config: Mapping[str, Any]
    literals: Mapping[str, Any]
    policy: NodePolicy
    component: int
    incoming: tuple[Edge, ...]
    outgoing: tuple[Edge, ...]
    many: frozenset[str]


@dataclass(frozen=True, slots=True)
class Graph:
    """Frozen and valid. `order` lists node positions so that every source comes before its targets."""

    nodes: tuple[GraphNode, ...]
    index: Mapping[str, int]
    order: tuple[int, ...]
    components: int

    def descendants(self, roots: Sequence[int]) -> set[int]:
        """The roots and everything downstream of them."""
        return self._reach(roots, lambda node: [edge.target for edge in node.outgoing])

    def ancestors(self, roots: Sequence[int]) -> set[int]:
        """The roots and everything upstream of them."""
        return self._reach(roots, lambda node: [edge.source for edge in node.incoming])

    def _reach(self, roots: Sequence[int], step: Any) -> set[int]:
        seen, open_ = set(roots), list(roots)
        while open_:
            fresh = [n for n in step(self.nodes[open_.pop()]) if n not in seen]
            seen.update(fresh)
            open_.extend(fresh)
        return seen


def build_graph(flow_json: Any, specs: Mapping[str, NodeSpec]) -> Graph:
    """The frozen graph of a flow's JSON. Raises InvalidFlow with every problem found."""
    return _Builder(read_document(flow_json), specs).build()


class _Builder:
    def __init__(self, document: FlowDocument, specs: Mapping[str, NodeSpec]) -> None:
        self._document = document
        self._known = specs
        self._problems: list[Problem] = []
        self._index: dict[str, int] = {}
        self._specs: list[NodeSpec | None] = []
        self._policies: list[NodePolicy] = []
        self._configs: list[Mapping[str, Any]] = []
        self._literals: list[Mapping[str, Any]] = []

    def build(self) -> Graph:
        for entry in self._document.nodes:
            self._add(entry)
        edges = [edge for entry in self._document.edges if (edge := self._connect(entry)) is not None]
        self._refuse_doubled(edges)
        self._refuse_open_inputs(edges)
        order = self._ordered(edges)
        if self._problems:
            raise InvalidFlow(self._problems)
        return self._frozen(edges, order)

    def _problem(self, code: str, message: str, node: str | None = None, handle: str | None = None) -> None:
        self._problems.append(Problem(code, message, node, handle))

    def _add(self, entry: NodeEntry) -> None:
        if entry.id in self._index:
            self._problem("duplicate_node", "this id is used by two nodes", entry.id)
            return
        spec = self._known.get(entry.type)
        if spec is None:
            self._problem("unknown_node_type", f"the type {entry.type!r} is not known; see GET /nodes/types", entry.id)
        self._index[entry.id] = len(self._specs)
        self._specs.append(spec)
        self._policies.append(self._policy(entry, spec))
        self._settle_values(entry, spec)

    def _policy(self, entry: NodeEntry, spec: NodeSpec | None) -> NodePolicy:
        default = NodePolicy(spec.default_timeout_s if spec else 1.0)
        try:
            return parse_policy(entry.settings, default.timeout_s)
        except InvalidPolicy as error:
            self._problem("invalid_policy", str(error), entry.id)
            return default

    def _settle_values(self, entry: NodeEntry, spec: NodeSpec | None) -> None:
        """Split the editor's values into parameters and literal inputs, and let the type judge the config."""
        params = {k: v for k, v in entry.values.items() if spec and k in spec.param_names}
        inputs = {k: v for k, v in entry.values.items() if k not in params}
        config, literals = {**params, **entry.config}, {**inputs, **entry.literals}
        self._configs.append(config)
        self._literals.append(literals)
        if spec is None:
            return
        for field, message in spec.config_problems(config):
            self._problem("invalid_config", f"config.{field}: {message}", entry.id)
        for handle in literals:
            if spec.input(handle) is None:
                self._problem("unknown_handle", f"no such input; {_known(spec.inputs)}", entry.id, handle)

    def _connect(self, entry: EdgeEntry) -> Edge | None:
        for end in (entry.source, entry.target):
            if end not in self._index:
                self._problem("unknown_node", "an edge names this node, but there is none", end)
        if entry.source not in self._index or entry.target not in self._index:
            return None
        source, target = self._index[entry.source], self._index[entry.target]
        out, into = self._output(source, entry), self._input(target, entry)
        if out is not None and into is not None and not kinds_fit(out.kind, into.kind):
            self._problem(
                "kind_mismatch",
                f"takes {into.kind}, but handle {entry.source_handle!r} of node {entry.source!r} gives {out.kind}",
                entry.target,
                entry.target_handle,
            )
        return Edge(source, entry.source_handle, target, entry.target_handle)

    def _output(self, source: int, entry: EdgeEntry) -> Port | None:
        spec = self._specs[source]
        if spec is None:
            return None
        if entry.source_handle == ERROR_HANDLE and self._policies[source].on_error == "route":
            return Port(ERROR_HANDLE, "object")
        port = spec.output(entry.source_handle)
        if port is None:
            self._problem(
                "unknown_handle", f"no such output; {_known(spec.outputs)}", entry.source, entry.source_handle
            )
        return port

    def _input(self, target: int, entry: EdgeEntry) -> Port | None:
        spec = self._specs[target]
        if spec is None:
            return None
        port = spec.input(entry.target_handle)
        if port is None:
            self._problem("unknown_handle", f"no such input; {_known(spec.inputs)}", entry.target, entry.target_handle)
        return port

    def _refuse_doubled(self, edges: Sequence[Edge]) -> None:
        """One edge a handle where all inputs are awaited: of two values one would be lost."""
        arriving: defaultdict[tuple[int, str], list[Edge]] = defaultdict(list)
        for edge in edges:
            arriving[edge.target, edge.target_handle].append(edge)
        for (target, handle), group in arriving.items():
            if len(group) != len(set(group)):
                self._problem("duplicate_edge", "the same edge is there twice", self._id(target), handle)
            spec = self._specs[target]
            port = spec.input(handle) if spec else None
            if len(group) > 1 and port and not port.many and self._policies[target].join.needed is None:
                self._problem(
                    "handle_taken",
                    "takes one edge; set the node's join to any or quorum to let branches meet here",
                    self._id(target),
                    handle,
                )

    def _refuse_open_inputs(self, edges: Sequence[Edge]) -> None:
        fed = {(edge.target, edge.target_handle) for edge in edges}
        arriving_at = Counter(edge.target for edge in edges)
        for index, spec in enumerate(self._specs):
            quorum, arriving = self._policies[index].join.needed, arriving_at[index]
            if quorum is not None and quorum > max(arriving, 1):
                self._problem(
                    "invalid_policy", f"a quorum of {quorum} of {arriving} edges is never met", self._id(index)
                )
            for port in spec.inputs.values() if spec else ():
                if port.required and (index, port.name) not in fed and port.name not in self._literals[index]:
                    self._problem("input_open", "this input is required; connect an edge", self._id(index), port.name)

    def _ordered(self, edges: Sequence[Edge]) -> tuple[int, ...]:
        before: dict[int, set[int]] = {index: set() for index in range(len(self._specs))}
        for edge in edges:
            before[edge.target].add(edge.source)
        try:
            return tuple(TopologicalSorter(before).static_order())
        except CycleError as error:
            self._refuse_loop(error.args[1], edges)
            return ()

    def _refuse_loop(self, loop: Sequence[int], edges: Sequence[Edge]) -> None:
        closing = next(e for e in edges if e.target in loop and e.source in loop)
        path = " → ".join(repr(self._id(index)) for index in loop)
        self._problem("loop", f"this edge closes a loop: {path}", self._id(closing.target), closing.target_handle)

    def _id(self, index: int) -> str:
        return next(name for name, position in self._index.items() if position == index)

    def _frozen(self, edges: Sequence[Edge], order: tuple[int, ...]) -> Graph:
        component_of, components = _components(len(self._specs), edges)
        incoming: defaultdict[int, list[Edge]] = defaultdict(list)
        outgoing: defaultdict[int, list[Edge]] = defaultdict(list)
        for edge in edges:
            outgoing[edge.source].append(edge)
            incoming[edge.target].append(edge)
        nodes = [
            GraphNode(
                i,
                name,
                spec.type,
                self._configs[i],
                self._literals[i],
                self._policies[i],
                component_of[i],
                tuple(incoming[i]),
                tuple(outgoing[i]),
                frozenset(port.name for port in spec.inputs.values() if port.many),
            )
            for (name, i), spec in zip(self._index.items(), self._specs, strict=True)
            if spec is not None
        ]
        return Graph(tuple(nodes), dict(self._index), order, components)


def _known(ports: Mapping[str, Port]) -> str:
    return f"it has {', '.join(ports)}" if ports else "it has none"


def _components(count: int, edges: Sequence[Edge]) -> tuple[list[int], int]:
    """Connected parts, numbered from 0 in the order of their first node."""
    leader = list(range(count))

    def find(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for edge in edges:
        a, b = find(edge.source), find(edge.target)
        leader[max(a, b)] = min(a, b)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(find(index), len(numbers)) for index in range(count)], len(numbers)
