"""One cycle as a state machine: outcomes go in, what may run next comes out. Pure; the same outcomes in any order
that respects the graph lead to the same end.

    waiting ──inputs met──▶ running ──▶ completed | failed | terminated
       └──join can no longer be met──▶ skipped          (or terminated while waiting)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tradingflow.py_worker.engine.graph import Graph, GraphNode

Ending = Literal["completed", "failed", "skipped", "terminated"]
CycleEnding = Literal["completed", "failed", "terminated"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one node task ended. `outputs` holds the handles that were taken: an edge from any other is not taken.

    `error` is `{"error": code, "detail": sentence}` of a failed task.
    """

    status: Ending
    outputs: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, str] | None = None
    attempt: int = 1
    started_at: datetime | None = None
    finished_at: datetime | None = None


SKIPPED = Outcome("skipped")


@dataclass(slots=True)
class Step:
    """What an outcome led to: nodes that may run now, and nodes that never will in this cycle."""

    ready: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A value that reached a node over one edge."""

    source: int
    source_handle: str
    target_handle: str
    value: Any


class CycleState:
    """The state of one cycle. Applying the same outcome again changes nothing; the first one wins."""

    __slots__ = ("_arrived", "_graph", "_open", "_released", "_undecided", "outcomes")

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.outcomes: dict[int, Outcome] = {}
        self._arrived = [0] * len(graph.nodes)
        self._undecided = [len(node.incoming) for node in graph.nodes]
        self._released: set[int] = set()
        self._open = len(graph.nodes)

    @property
    def is_done(self) -> bool:
        """Whether every node has ended."""
        return self._open == 0

    @property
    def ending(self) -> CycleEnding:
        """How the cycle ended, once it is done: a failure that a node's policy forgives does not count."""
        if any(outcome.status == "terminated" for outcome in self.outcomes.values()):
            return "terminated"
        nodes = self._graph.nodes
        failed = any(o.status == "failed" and nodes[i].policy.on_error == "fail" for i, o in self.outcomes.items())
        return "failed" if failed else "completed"

    def start(self) -> Step:
        """Release the nodes that wait for nothing."""
        step = Step()
        for node in self._graph.nodes:
            if not node.incoming and node.index not in self._released:
                self._release(node.index, step)
        return step

    def restore(self, outcomes: Mapping[int, Outcome]) -> Step:
        """Apply stored outcomes to a fresh state. Ready is then what still has to run.

        What is stored stands, whatever its sources say: a partial run stores the outcomes it was given.
        """
        self._released.update(outcomes)
        step = self.start()
        for index, outcome in outcomes.items():
            self._apply(index, outcome, step)
        return step

    def finish(self, index: int, outcome: Outcome) -> Step:
        """Apply one outcome and everything that follows from it at once."""
        step = Step()
        self._apply(index, outcome, step)
        return step

    def unfinished(self) -> Iterable[int]:
        return (index for index in range(len(self._graph.nodes)) if index not in self.outcomes)

    def arrivals(self, index: int) -> list[Arrival]:
        """What reached a node so far, in the order of the graph's edges."""
        found = []
        for edge in self._graph.nodes[index].incoming:
            source = self.outcomes.get(edge.source)
            if source is not None and edge.source_handle in source.outputs:
                value = source.outputs[edge.source_handle]
                found.append(Arrival(edge.source, edge.source_handle, edge.target_handle, value))
        return found

    def _apply(self, index: int, outcome: Outcome, step: Step) -> None:
        decided = [(index, outcome)]
        while decided:
            index, outcome = decided.pop()
            if index in self.outcomes:
                continue
            self.outcomes[index] = outcome
            self._open -= 1
            for edge in self._graph.nodes[index].outgoing:
                self._undecided[edge.target] -= 1
                self._arrived[edge.target] += edge.source_handle in outcome.outputs
                if self._judge(self._graph.nodes[edge.target], step):
                    decided.append((edge.target, SKIPPED))

    def _judge(self, node: GraphNode, step: Step) -> bool:
        """Release a node whose join is met; True when it can no longer be."""
        if node.index in self._released:
            return False
        needed = node.policy.join.needed or len(node.incoming)
        arrived = self._arrived[node.index]
        if arrived >= needed:
            self._release(node.index, step)
        elif arrived + self._undecided[node.index] < needed:
            self._released.add(node.index)
            step.skipped.append(node.index)
            return True
        return False

    def _release(self, index: int, step: Step) -> None:
        self._released.add(index)
        step.ready.append(index)


def inputs_of(node: GraphNode, arrivals: Iterable[Arrival]) -> dict[str, Any]:
    """The values `run` gets: literals, overlaid by what came; of several on a handle that takes one, the first."""
    values = dict(node.literals)
    seen: set[str] = set()
    for arrival in arrivals:
        handle = arrival.target_handle
        if handle in node.many:
            values[handle] = [*values[handle], arrival.value] if handle in seen else [arrival.value]
        elif handle not in seen:
            values[handle] = arrival.value
        seen.add(handle)
    return values
