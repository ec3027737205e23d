"""Runs a graph's cycles one after the other at simulated times. One thread, no event loop, no wall clock.

Nodes with a batch form are computed for all cycles first; the others run cycle by cycle, sources before targets. A node
that waits (for the next candle to open) lets the rest of its cycle go on; fire times that pass meanwhile are left out,
as the schedule of a live flow does with an open cycle.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np

from tradingflow.core.errors import InvariantBroken, TradingFlowError
from tradingflow.py_worker.backtest.agenda import Agenda, Step
from tradingflow.py_worker.backtest.batching import WholeTape, batch_nodes
from tradingflow.py_worker.backtest.candles import Times
from tradingflow.py_worker.backtest.context import BacktestContext, Outside
from tradingflow.py_worker.backtest.timeline import Failure, Timeline
from tradingflow.py_worker.backtest.world import DataEnded, Until, World
from tradingflow.py_worker.engine.cycle import Arrival, Ending, inputs_of
from tradingflow.py_worker.engine.graph import Graph, GraphNode
from tradingflow.py_worker.engine.spec import ERROR_HANDLE
from tradingflow.py_worker.kit import NOT_TAKEN, Incoming, Json, NodeOutputs
from tradingflow.py_worker.kit.batch import positions
from tradingflow.py_worker.kit.registry import AnyNode

Progress = Callable[[int, int], None]
"""Told (cycles done, cycles in all) now and then; what it raises ends the backtest."""
CYCLES_BETWEEN_NEWS = 2_000
Running = Coroutine[Any, Any, NodeOutputs]


@dataclass(frozen=True)
class TestedFlow:
    """A flow version as a backtest runs it; `flow_pk` and `version` make the trade ids."""

    graph: Graph
    types: Mapping[str, AnyNode]
    flow_id: str
    flow_pk: UUID
    version: int


class Driver:
    """`run` once. `batch=False` runs every node in every cycle: slower, and the same to the bit."""

    def __init__(
        self,
        flow: TestedFlow,
        world: World,
        outside: Outside,
        times: Times,
        *,
        batch: bool = True,
        progress: Progress | None = None,
    ) -> None:
        self._flow = flow
        self._world = world
        self._clock = world.clock
        self._times = times
        self._progress = progress
        self.timeline = Timeline([node.id for node in flow.graph.nodes], times)
        tape = WholeTape(world, times)
        every_cycle = world.fills_at_once(times)
        self.batched = batch_nodes(flow.graph, flow.types, tape, times, every_cycle) if batch else {}
        self._steps = [self._step(index, outside) for index in flow.graph.order if index not in self.batched]
        self._agenda = Agenda(self._steps, self.batched, len(times), tape if batch else None, world.ledger.balances)
        self._outputs: list[Mapping[str, Json]] = [{} for _ in flow.graph.nodes]
        self._cycle = 0

    def run(self) -> Timeline:
        for index, found in self.batched.items():
            taken = {handle: column.taken for handle, column in found.columns.items()}
            self.timeline.batch(index, found.ran, taken)
        for step in self._steps:
            self.timeline.batch(step.index, self._agenda.idles(step), {})
        self._run_steps()
        if self._progress is not None:
            self._progress(len(self._times), len(self._times))
        return self.timeline

    def _run_steps(self) -> None:
        times, cycle, news_at = positions(self._times), 0, 0
        while (found := self._agenda.next_from(cycle)) is not None:
            self._cycle = found
            if found >= news_at and self._progress is not None:
                self._progress(found, len(times))
                news_at = found + CYCLES_BETWEEN_NEWS
            self._clock.advance_to(times[found])
            self._run_cycle()
            cycle = found + 1
            if self._clock.now_ms > times[found]:
                cycle = int(np.searchsorted(self._times, self._clock.now_ms, "left"))
                self.timeline.codes[:, found + 1 : cycle] = 0

    def _step(self, index: int, outside: Outside) -> Step:
        flow, node = self._flow, self._flow.graph.nodes[index]
        context = BacktestContext(self._world, outside, flow.flow_id, node.id, lambda: self._incoming(node))
        return Step(node, flow.types[node.type], context)

    # ------------------------------------------------------------------ one cycle

    def _run_cycle(self) -> None:
        waiting: list[tuple[int, int, Step, Running]] = []
        open_: set[int] = set()
        todo: Sequence[Step] = self._steps
        while todo or waiting:
            blocked = []
            for step in todo:
                arrivals = self._arrivals(step.node)
                if len(arrivals) >= step.needed:
                    self._begin(step, arrivals, waiting)
                    if waiting and waiting[-1][2] is step:
                        open_.add(step.index)
                elif open_ and any(edge.source in open_ for edge in step.node.incoming):
                    blocked.append(step)
                    open_.add(step.index)
                else:
                    self._outputs[step.index] = {}
            todo = blocked
            if waiting:
                self._resume_first(waiting, open_)
            open_.difference_update(step.index for step in blocked)

    def _begin(self, step: Step, arrivals: Sequence[Arrival], waiting: list[tuple[int, int, Step, Running]]) -> None:
        step.context.cycle = self._cycle
        self._outputs[step.index] = {}
        try:
            inputs = step.kind.read_inputs(inputs_of(step.node, arrivals))
        except TradingFlowError as error:
            self._fail(step, error.code, error.detail)
            return
        self._go_on(step, step.kind.run(step.context, step.params, inputs), waiting)

    def _go_on(self, step: Step, running: Running, waiting: list[tuple[int, int, Step, Running]]) -> None:
        """Run until the node ends, or waits for a later time."""
        try:
            while True:
                asked_ms = _awaited(running.send(None))
                if asked_ms > self._clock.now_ms:
                    waiting.append((asked_ms, step.index, step, running))
                    return
        except StopIteration as stop:
            self._complete(step, stop.value)
        except DataEnded:
            self._end(step, "terminated", {})
        except TradingFlowError as error:
            self._fail(step, error.code, error.detail)
        except Exception as error:  # noqa: BLE001 (the engine's edge: a node's defect is an outcome, as it is live)
            self._fail(step, "node_defect", f"the node broke with {type(error).__name__}: {error}")

    def _resume_first(self, waiting: list[tuple[int, int, Step, Running]], open_: set[int]) -> None:
        first = heapq.nsmallest(1, waiting, key=lambda entry: entry[:2])[0]
        waiting.remove(first)
        time_ms, index, step, running = first
        self._clock.advance_to(max(time_ms, self._clock.now_ms))
        before = len(waiting)
        self._go_on(step, running, waiting)
        if len(waiting) == before:
            open_.discard(index)

    def _complete(self, step: Step, outputs: NodeOutputs) -> None:
        step.context.remembered.keep()
        if step.is_read:
            signals = outputs.signals()
            self._outputs[step.index] = signals
            handles = tuple(signals)
        else:
            handles = tuple(name for name, value in outputs if value is not NOT_TAKEN)
        self.timeline.codes[step.index, self._cycle] = self.timeline.code("completed", handles)

    def _fail(self, step: Step, code: str, detail: str) -> None:
        step.context.remembered.drop()
        error = {"error": code, "detail": detail}
        self.timeline.fail(Failure(self._cycle, step.node.id, code, detail))
        self._end(step, "failed", {ERROR_HANDLE: error} if step.node.policy.on_error == "route" else {})

    def _end(self, step: Step, status: Ending, outputs: Mapping[str, Json]) -> None:
        self._outputs[step.index] = outputs
        self.timeline.codes[step.index, self._cycle] = self.timeline.code(status, tuple(outputs))

    # ------------------------------------------------------------------ signals

    def _arrivals(self, node: GraphNode) -> list[Arrival]:
        found = []
        cycle, batched = self._cycle, self.batched
        for edge in node.incoming:
            source = batched.get(edge.source)
            if source is None:
                outputs = self._outputs[edge.source]
                if edge.source_handle in outputs:
                    value = outputs[edge.source_handle]
                    found.append(Arrival(edge.source, edge.source_handle, edge.target_handle, value))
            else:
                column = source.columns.get(edge.source_handle)
                if column is not None and column.taken[cycle]:
                    found.append(Arrival(edge.source, edge.source_handle, edge.target_handle, column.value(cycle)))
        return found

    def _incoming(self, node: GraphNode) -> Sequence[Incoming]:
        nodes = self._flow.graph.nodes
        return [Incoming(nodes[a.source].id, a.source_handle, a.target_handle, a.value) for a in self._arrivals(node)]


def _awaited(asked: Any) -> int:
    """The time a node waits for. Raises InvariantBroken for a wait that is not simulated (a socket, a timer)."""
    if not isinstance(asked, Until):
        raise InvariantBroken("node_suspended", "the node awaits something a backtest does not simulate")
    return asked.time_ms
