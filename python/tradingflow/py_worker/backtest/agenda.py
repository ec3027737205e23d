"""Which cycles have anything to run one by one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tradingflow.core.errors import TradingFlowError
from tradingflow.py_worker.backtest.batching import Batched, WholeTape
from tradingflow.py_worker.backtest.candles import Times
from tradingflow.py_worker.backtest.context import BacktestContext
from tradingflow.py_worker.engine.graph import Edge, GraphNode
from tradingflow.py_worker.kit.batch import Flags, Idle, positions
from tradingflow.py_worker.kit.registry import AnyNode


class Step:
    """A node that runs cycle by cycle."""

    def __init__(self, node: GraphNode, kind: AnyNode, context: BacktestContext) -> None:
        self.index = node.index
        self.node = node
        self.kind = kind
        self.context = context
        self.params = kind.read_params(node.config)
        self.needed = node.policy.join.needed or len(node.incoming)
        self.is_read = bool(node.outgoing)


@dataclass(frozen=True)
class _Waits:
    """The cycles of a step that has nothing to do while the vault holds none of `token`."""

    token: str
    cycles: Sequence[int]


class Agenda:
    """Finds the next cycle that must be run. A cycle in which every step rests changes nothing and is passed over."""

    def __init__(
        self,
        steps: Sequence[Step],
        batched: Mapping[int, Batched],
        cycles: int,
        tape: WholeTape | None,
        balances: Mapping[str, int],
    ) -> None:
        self._batched = batched
        self._balances = balances
        self._idle: dict[int, Flags] = {}
        self._waits: list[_Waits] = []
        never = np.zeros(cycles, bool)
        must_run = never.copy()
        stepwise = {step.index for step in steps}
        for step in steps:
            ready = self._surely(step, stepwise, cycles) >= step.needed
            found = None if tape is None or not _is_fed_by_batches(step, stepwise) else _idle(step, tape)
            idle = never if found is None else ready & found.when
            self._idle[step.index] = idle
            must_run |= ready & ~idle
            if found is not None:
                self._waits.append(_Waits(found.token, _positions(idle)))
        self._always = _positions(must_run)

    def idles(self, step: Step) -> Flags:
        """Where the step completes without outputs unless it is run after all."""
        return self._idle[step.index]

    def next_from(self, cycle: int) -> int | None:
        """The first cycle from `cycle` on that must be run, as balances stand now."""
        found = [_first(self._always, cycle)]
        found += [_first(waits.cycles, cycle) for waits in self._waits if self._balances.get(waits.token, 0)]
        return min((position for position in found if position is not None), default=None)

    def _surely(self, step: Step, stepwise: set[int], cycles: int) -> Times:
        """How many signals reach a step whatever the other steps do.

        A step that needs more than these runs only in a cycle in which another step has run.
        """
        arriving = np.zeros(cycles, np.int64)
        for edge in step.node.incoming:
            if edge.source not in stepwise and (taken := self._taken(edge)) is not None:
                arriving += taken
        return arriving

    def _taken(self, edge: Edge) -> Flags | None:
        column = self._batched[edge.source].columns.get(edge.source_handle)
        return None if column is None else column.taken


def _is_fed_by_batches(step: Step, stepwise: set[int]) -> bool:
    return not any(edge.source in stepwise for edge in step.node.incoming)


def _idle(step: Step, tape: WholeTape) -> Idle | None:
    connected = {*step.node.literals, *(edge.target_handle for edge in step.node.incoming)}
    try:
        return step.kind.idle(tape, step.params, connected)
    except TradingFlowError:
        return None  # the run says what is wrong


def _positions(mask: Flags) -> Sequence[int]:
    return positions(np.flatnonzero(mask).astype(np.int64))


def _first(cycles: Sequence[int], cycle: int) -> int | None:
    place = bisect_left(cycles, cycle)
    return cycles[place] if place < len(cycles) else None
