"""A graph is refused with every node and handle at fault, or frozen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.engine.conftest import SPECS, edge, graph_of, node
from tradingflow.py_worker.engine.graph import build_graph
from tradingflow.py_worker.engine.problems import InvalidFlow


def refused(nodes: list[Any], edges: list[Any]) -> InvalidFlow:
    with pytest.raises(InvalidFlow) as caught:
        graph_of(nodes, edges)
    return caught.value


@pytest.mark.parametrize(
    ("nodes", "edges", "code", "place", "handle"),
    [
        ([node("a"), node("a")], [], "duplicate_node", "a", None),
        ([node("a", "nonsense")], [], "unknown_node_type", "a", None),
        ([node("a", "start"), node("b")], [edge("a", "b", "nope")], "unknown_handle", "a", "nope"),
        ([node("a", "start"), node("b")], [edge("a", "b", "out", "nope")], "unknown_handle", "b", "nope"),
        ([node("a", "start")], [edge("a", "ghost")], "unknown_node", "ghost", None),
        ([node("a", "text"), node("b", "needs")], [edge("a", "b")], "kind_mismatch", "b", "in"),
        ([node("b", "needs")], [], "input_open", "b", "in"),
        ([node("a"), node("b")], [edge("a", "b"), edge("b", "a")], "loop", "b", "in"),
        ([node("a")], [edge("a", "a")], "loop", "a", "in"),
        ([node("a", config={"bad": 1})], [], "invalid_config", "a", None),
        ([node("a", timeout_s=0)], [], "invalid_policy", "a", None),
        ([node("a", on_error="ignore")], [], "invalid_policy", "a", None),
        ([node("a", join="most")], [], "invalid_policy", "a", None),
        ([node("a", retry={"max_attempts": 0})], [], "invalid_policy", "a", None),
        ([node("a", "start"), node("b", join={"quorum": 2})], [edge("a", "b")], "invalid_policy", "b", None),
        (
            [node("a", "start"), node("b", "start"), node("c")],
            [edge("a", "c"), edge("b", "c")],
            "handle_taken",
            "c",
            "in",
        ),
        ([node("a", inputs={"nope": 1})], [], "unknown_handle", "a", "nope"),
    ],
)
def test_a_wrong_graph_names_the_node_and_the_handle(
    nodes: list[Any], edges: list[Any], code: str, place: str, handle: str | None
) -> None:
    problem = refused(nodes, edges).problems[0]
    assert (problem.code, problem.node, problem.handle) == (code, place, handle)


@pytest.mark.parametrize(
    "flow_json",
    [None, [], "x", {}, {"nodes": []}, {"nodes": [1]}, {"nodes": [{"id": "a b", "type": "start"}]},
     {"nodes": [{"id": 1}]},
     {"nodes": [{"id": "a"}]}, {"nodes": [{"id": "a", "type": "start"}], "edges": [{}]},
     {"nodes": [{"id": "a", "type": "start", "config": 1}]},
     {"nodes": [{"id": "a", "type": "start", "data": {"inputs": 1}}]},
     {"nodes": [{"id": f"n{i}", "type": "start"} for i in range(201)]}],
)  # fmt: skip
def test_json_that_is_no_flow_is_refused(flow_json: Any) -> None:
    with pytest.raises(InvalidFlow):
        build_graph(flow_json, SPECS)


@pytest.mark.parametrize("place", ["source_handle", "target_handle"])
def test_a_handle_has_a_longest_name(place: str) -> None:
    nodes = [node("a", "open"), node("b", "open")]
    longest = {**edge("a", "b"), place: "h" * 100}
    assert graph_of(nodes, [longest]).nodes[0].outgoing
    error = refused(nodes, [{**longest, place: "h" * 101}])
    assert error.code == "invalid_edge"
    assert error.detail == f"flow: the {place} of entry 0 of edges may have at most 100 characters"


def test_every_problem_is_told_at_once() -> None:
    error = refused([node("a", "nonsense"), node("b", "needs")], [edge("b", "ghost")])
    assert {p.code for p in error.problems} == {"unknown_node_type", "unknown_node", "input_open"}
    assert "node 'b', handle 'in'" in error.detail


def test_camel_case_edges_are_accepted() -> None:
    camel = {"source": "a", "sourceHandle": "out", "target": "b", "targetHandle": "in"}
    graph = graph_of([node("a", "start"), node("b")], [camel])
    assert graph.nodes[1].incoming[0].source_handle == "out"


def test_the_visual_editors_format_is_accepted_as_it_is_saved() -> None:
    data = {
        "title": "Step",
        "description": "…",
        "collection": "test",
        "inputs": [
            {"id": "size", "title": "Size", "type": "number", "inputType": "number", "required": True, "value": 3},
            {"id": "in", "title": "In", "type": "any", "inputType": "text", "required": False, "value": "hello"},
        ],
        "outputs": [{"id": "out", "title": "Out", "type": "any"}],
    }
    saved = {"id": "a", "type": "step", "position": {"x": 1, "y": 2}, "data": data}
    graph = graph_of([saved], [])
    assert graph.nodes[0].config == {"size": 3}
    assert graph.nodes[0].literals == {"in": "hello"}


def test_an_editor_field_nobody_filled_in_is_left_out() -> None:
    fields = [{"id": "size", "value": ""}, {"id": "in", "value": None}, {"id": "in"}]
    graph = graph_of([{"id": "a", "type": "step", "data": {"inputs": fields}}], [])
    assert (graph.nodes[0].config, graph.nodes[0].literals) == ({}, {})


def test_components_are_the_connected_parts() -> None:
    graph = graph_of([node("a", "start"), node("b", "start"), node("c"), node("d")], [edge("a", "c"), edge("b", "d")])
    assert graph.components == 2
    assert [n.component for n in graph.nodes] == [0, 1, 0, 1]


def test_the_order_puts_sources_first_and_reach_follows_the_edges() -> None:
    graph = graph_of([node("c"), node("b"), node("a", "start")], [edge("a", "b"), edge("b", "c")])
    ids = [graph.nodes[i].id for i in graph.order]
    assert ids == ["a", "b", "c"]
    assert graph.descendants([graph.index["b"]]) == {graph.index["b"], graph.index["c"]}
    assert graph.ancestors([graph.index["b"]]) == {graph.index["b"], graph.index["a"]}


def test_an_error_handle_exists_only_where_errors_are_routed() -> None:
    routed = [node("a", "start", on_error="route"), node("b")]
    assert graph_of(routed, [edge("a", "b", "error")]).components == 1
    assert refused([node("a", "start"), node("b")], [edge("a", "b", "error")]).code == "unknown_handle"


def test_open_handles_take_any_name() -> None:
    graph = graph_of([node("a", "open"), node("b", "open")], [edge("a", "b", "whatever", "else")])
    assert graph.components == 1
