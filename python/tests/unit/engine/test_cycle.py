"""The state machine of a cycle, for every order in which nodes may end."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.engine.conftest import edge, graph_of, node
from tradingflow.py_worker.engine.cycle import CycleState, Outcome, inputs_of
from tradingflow.py_worker.engine.graph import Graph

DONE = Outcome("completed", {"out": 1})
NOT_TAKEN = Outcome("completed", {})
FAILED = Outcome("failed", {}, {"error": "x", "detail": "y"})


def diamond(**join: Any) -> Graph:
    nodes = [node("a", "start"), node("l"), node("r"), node("j", "many", **join)]
    return graph_of(nodes, [edge("a", "l"), edge("a", "r"), edge("l", "j"), edge("r", "j")])


def names(graph: Graph, indices: list[int]) -> list[str]:
    return sorted(graph.nodes[i].id for i in indices)


def test_a_join_of_all_waits_for_the_last_input() -> None:
    graph = diamond()
    state = CycleState(graph)
    assert names(graph, state.start().ready) == ["a"]
    assert names(graph, state.finish(0, DONE).ready) == ["l", "r"]
    assert state.finish(1, DONE).ready == []
    assert names(graph, state.finish(2, DONE).ready) == ["j"]
    state.finish(3, DONE)
    assert state.is_done
    assert state.ending == "completed"


def test_a_join_of_any_runs_with_the_first_and_only_once() -> None:
    state = CycleState(diamond(join="any"))
    state.start()
    state.finish(0, DONE)
    assert state.finish(1, DONE).ready == [3]
    assert state.finish(2, DONE).ready == []


def test_a_join_that_can_no_longer_be_met_is_decided_at_once() -> None:
    state = CycleState(diamond())
    state.start()
    state.finish(0, DONE)
    assert state.finish(1, NOT_TAKEN).skipped == [3]
    assert not state.is_done
    assert state.finish(2, DONE).ready == []
    assert state.is_done


def test_a_quorum_is_met_or_missed_as_soon_as_it_is_certain() -> None:
    nodes = [node(n, "start") for n in "abc"] + [node("q", "many", join={"quorum": 2})]
    graph = graph_of(nodes, [edge(n, "q") for n in "abc"])
    met = CycleState(graph)
    met.start()
    assert met.finish(0, DONE).ready == []
    assert met.finish(1, DONE).ready == [3]
    missed = CycleState(graph)
    missed.start()
    assert missed.finish(0, NOT_TAKEN).skipped == []
    assert missed.finish(1, NOT_TAKEN).skipped == [3]


def test_the_same_outcome_again_changes_nothing_and_the_first_wins() -> None:
    state = CycleState(diamond())
    state.start()
    state.finish(0, DONE)
    again = state.finish(0, FAILED)
    assert (again.ready, again.skipped) == ([], [])
    assert state.outcomes[0] is DONE


def test_a_forgiven_failure_does_not_fail_the_cycle() -> None:
    state = CycleState(graph_of([node("a", "start", on_error="continue"), node("b")], [edge("a", "b")]))
    state.start()
    assert state.finish(0, FAILED).skipped == [1]
    assert state.ending == "completed"
    strict = CycleState(graph_of([node("a", "start")], []))
    strict.start()
    strict.finish(0, FAILED)
    assert strict.ending == "failed"


def test_terminated_outweighs_failed() -> None:
    state = CycleState(graph_of([node("a", "start"), node("b", "start")], []))
    state.start()
    state.finish(0, FAILED)
    state.finish(1, Outcome("terminated"))
    assert state.ending == "terminated"


def test_given_outcomes_stand_whatever_their_sources_say() -> None:
    graph = graph_of([node("a", "start"), node("b"), node("c")], [edge("a", "b"), edge("b", "c")])
    state = CycleState(graph)
    step = state.restore({0: Outcome("skipped"), 1: DONE})
    assert step.ready == [2]
    assert state.outcomes[1] is DONE


def test_inputs_are_literals_overlaid_by_arrivals_and_lists_where_many_may_come() -> None:
    graph = graph_of(
        [node("a", "start"), node("b", "start"), node("m", "many"), node("s", inputs={"in": 0})],
        [edge("a", "m"), edge("b", "m"), edge("a", "s")],
    )
    state = CycleState(graph)
    state.start()
    assert inputs_of(graph.nodes[3], state.arrivals(3)) == {"in": 0}
    state.finish(0, Outcome("completed", {"out": 10}))
    state.finish(1, Outcome("completed", {"out": 20}))
    assert inputs_of(graph.nodes[2], state.arrivals(2)) == {"in": [10, 20]}
    assert inputs_of(graph.nodes[3], state.arrivals(3)) == {"in": 10}


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    """Any acyclic graph of up to 12 nodes with any join rules."""
    count = draw(st.integers(1, 12))
    joins = st.sampled_from(["all", "any"])
    nodes = [
        node(f"n{i}", "many", join=draw(joins), on_error=draw(st.sampled_from(["fail", "continue"])))
        for i in range(count)
    ]
    pairs = [(a, b) for b in range(count) for a in range(b)]
    chosen = draw(st.sets(st.sampled_from(pairs))) if pairs else set()
    return graph_of(nodes, [edge(f"n{a}", f"n{b}") for a, b in sorted(chosen)])


@given(random_graphs(), st.data())
def test_every_cycle_ends_and_a_restored_one_goes_on_as_if_nothing_had_happened(
    graph: Graph, data: st.DataObject
) -> None:
    decided = {i: data.draw(st.sampled_from([DONE, NOT_TAKEN, FAILED])) for i in range(len(graph.nodes))}
    state = CycleState(graph)
    ready = state.start().ready
    while ready:
        index = ready.pop(data.draw(st.integers(0, len(ready) - 1)))
        assert index not in state.outcomes
        ready += state.finish(index, decided[index]).ready
        restored = CycleState(graph)
        step = restored.restore(dict(state.outcomes))
        assert sorted(step.ready) == sorted(ready)
        assert restored.outcomes.keys() == state.outcomes.keys()
    assert state.is_done
