"""One cycle once more: the same engine, the nodes' own code, and the journal in the world's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

import msgspec

from tradingflow.py_worker.engine.cycle import CycleState, Outcome, inputs_of
from tradingflow.py_worker.engine.graph import Graph, GraphNode
from tradingflow.py_worker.engine.spec import ERROR_HANDLE
from tradingflow.py_worker.kit import CodeRunner, Incoming, NodeContext
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.places import Places
from tradingflow.py_worker.replay.context import Answers, Observed, ReplayContext, intent_of
from tradingflow.py_worker.runtime.runner import NodeFailure, encoded_json, execute_node

Verdict = Literal["same", "changed", "added", "removed", "kept"]
# Endings that came from outside the node: nobody can ask it for them again.
_OUTSIDE_ENDINGS = ("terminated",)
_OUTSIDE_ERRORS = ("timeout",)
MAX_REPLAYS = 8


def replay_places() -> Places:
    """Each replay holds a cycle's whole journal, and may run its owner's code."""
    return Places(MAX_REPLAYS, "replay_busy", "a cycle is being replayed")


@dataclass(frozen=True)
class Recording:
    """A cycle as it went: outcomes and journal by node, and how its ids were made."""

    flow_id: str
    cycle: int
    mode: str
    identity: str
    fired_at: datetime
    outcomes: Mapping[str, Outcome]
    journal: Mapping[str, Sequence[Mapping[str, Any]]]
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeDifference:
    """One node, then and now. `kept`: its ending came from outside, so it stands as it was recorded."""

    node_id: str
    verdict: Verdict
    recorded: Outcome | None
    replayed: Outcome | None
    recorded_intent: Any = None
    replayed_intent: Any = None
    unanswered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Replayed:
    """What came out, node by node in the order of the graph replayed, then those it no longer has."""

    ending: str
    nodes: tuple[NodeDifference, ...]

    @property
    def is_equal(self) -> bool:
        return all(node.verdict in ("same", "kept") for node in self.nodes)


class Replay:
    """Runs one recording through one graph."""

    def __init__(
        self, recording: Recording, graph: Graph, types: Mapping[str, AnyNode], sandbox: CodeRunner | None = None
    ) -> None:
        self._recording = recording
        self._graph = graph
        self._types = types
        self._sandbox = sandbox
        self._answers = Answers(recording.journal)
        self._state = CycleState(graph)
        self._observed: dict[str, Observed] = {}
        self._kept: set[str] = set()

    async def run(self) -> Replayed:
        """Raises nothing a node does: whatever happens is an outcome."""
        given = {
            self._graph.index[name]: outcome
            for name, outcome in self._recording.outcomes.items()
            if outcome.attempt == 0 and name in self._graph.index
        }
        self._kept.update(self._graph.nodes[index].id for index in given)
        waiting = list(self._state.restore(given).ready)
        while waiting:
            index = waiting.pop(0)
            outcome = await self._outcome(self._graph.nodes[index])
            waiting += self._state.finish(index, outcome).ready
        nodes = [self._compare(node) for node in self._graph.nodes]
        gone = [name for name in self._recording.outcomes if name not in self._graph.index]
        removed = [NodeDifference(name, "removed", self._recording.outcomes[name], None) for name in gone]
        return Replayed(self._state.ending, (*nodes, *removed))

    async def _outcome(self, node: GraphNode) -> Outcome:
        recorded = self._recording.outcomes.get(node.id)
        if recorded is not None and _came_from_outside(recorded):
            self._kept.add(node.id)
            return recorded
        arrivals = self._state.arrivals(node.index)
        names = [self._graph.nodes[arrival.source].id for arrival in arrivals]
        incoming = [
            Incoming(name, arrival.source_handle, arrival.target_handle, arrival.value)
            for name, arrival in zip(names, arrivals, strict=True)
        ]
        context = self._context(node, incoming)
        self._observed[node.id] = context.observed
        try:
            inputs = inputs_of(node, arrivals)
            signals = await execute_node(self._types[node.type], cast("NodeContext", context), node, inputs)
            return Outcome("completed", msgspec.json.decode(encoded_json(signals)))
        except NodeFailure as failure:
            error = failure.told()
            return Outcome("failed", {ERROR_HANDLE: error} if node.policy.on_error == "route" else {}, error)

    def _context(self, node: GraphNode, incoming: Sequence[Incoming]) -> ReplayContext:
        recording = self._recording
        return ReplayContext(
            self._answers,
            node.id,
            flow_id=recording.flow_id,
            cycle=recording.cycle,
            mode=recording.mode,
            identity=recording.identity,
            now=recording.fired_at,
            incoming=incoming,
            sandbox=self._sandbox,
            more=recording.more,
        )

    def _compare(self, node: GraphNode) -> NodeDifference:
        recorded, replayed = self._recording.outcomes.get(node.id), self._state.outcomes.get(node.index)
        observed = self._observed.get(node.id, Observed())
        asked = self._answers.asked(node.id, "trades", "swap")
        intents = (intent_of(asked["args"]) if asked else None, observed.intent)
        verdict: Verdict = "added"
        if recorded is not None:
            is_same = replayed is not None and _told(recorded) == _told(replayed)
            verdict = "kept" if node.id in self._kept else "same" if is_same else "changed"
        return NodeDifference(node.id, verdict, recorded, replayed, *intents, tuple(observed.unanswered))


def _came_from_outside(outcome: Outcome) -> bool:
    if outcome.status in _OUTSIDE_ENDINGS:
        return True
    return outcome.error is not None and outcome.error.get("error") in _OUTSIDE_ERRORS


def _told(outcome: Outcome) -> tuple[object, ...]:
    """What of an outcome must be equal; the words of a failure may differ, its code may not."""
    return outcome.status, dict(outcome.outputs), (outcome.error or {}).get("error")
