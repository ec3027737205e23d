"""Does a flow decide by what it could not have known, and how long does it take to settle?

Look-ahead: the same flow over the data cut off at a point must have decided the same up to there. Warm-up: the same
flow begun later, without the candles before, must after some cycles decide what it decides with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tradingflow.core.errors import InvalidInput
from tradingflow.py_worker.backtest.candles import Candles
from tradingflow.py_worker.backtest.context import Outside
from tradingflow.py_worker.backtest.driver import TestedFlow
from tradingflow.py_worker.backtest.result import BacktestResult, told
from tradingflow.py_worker.backtest.run import backtest
from tradingflow.py_worker.backtest.spec import BacktestSpec

FEWEST_CYCLES = 20


@dataclass(frozen=True)
class Change:
    """A decision that was another one with less data: `node_id` in the cycle at `time_ms`."""

    time_ms: int
    node_id: str
    decided: str
    decided_with_less: str

    def __str__(self) -> str:
        return f"{told(self.time_ms)} {self.node_id}: {self.decided}; without what came later: {self.decided_with_less}"


@dataclass(frozen=True)
class Settling:
    """A start without history. `cycles` is how many passed until every later decision was that of the long run."""

    start_ms: int
    cycles: int
    nodes: tuple[str, ...]
    settled: bool


@dataclass(frozen=True)
class CheckReport:
    """`changes` must be empty: each is a decision by what came later."""

    cuts: tuple[int, ...]
    changes: tuple[Change, ...]
    settlings: tuple[Settling, ...]

    @property
    def looks_ahead(self) -> bool:
        return bool(self.changes)

    @property
    def warm_up(self) -> int | None:
        """Cycles to leave out before decisions can be believed; None when a start never settled."""
        return max(s.cycles for s in self.settlings) if all(s.settled for s in self.settlings) else None


def check(
    flow: TestedFlow,
    series: Sequence[Candles],
    spec: BacktestSpec,
    *,
    points: int = 6,
    seed: int = 0,
    outside: Outside | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Run the flow once over everything, and twice for each of `points` random times."""
    whole = backtest(flow, series, spec, outside=outside)
    times = whole.timeline.times
    if len(times) < FEWEST_CYCLES:
        raise InvalidInput("too_few_cycles", f"a check needs {FEWEST_CYCLES} cycles or more; there are {len(times)}")
    rng = np.random.default_rng(seed)
    chosen = np.sort(
        rng.choice(np.arange(len(times) // 10, len(times) - 1), min(points, len(times) // 4), replace=False)
    )
    changes: list[Change] = []
    settlings = []
    for done, at in enumerate(chosen.tolist()):
        cut_ms = int(times[at])
        changes += _changes(whole, backtest(flow, _until(series, cut_ms), spec, outside=outside))
        start_ms = int(times[len(times) - 1 - at])
        late = backtest(flow, _since(series, start_ms), spec.model_copy(update={"start": None}), outside=outside)
        settlings.append(_settling(flow, whole, late, start_ms))
        if progress is not None:
            progress(done + 1, len(chosen))
    return CheckReport(tuple(times[chosen].tolist()), tuple(changes), tuple(settlings))


def _until(series: Sequence[Candles], time_ms: int) -> list[Candles]:
    """Only what had closed by then."""
    return [candles.between(0, candles.closed_by(time_ms)) for candles in series]


def _since(series: Sequence[Candles], time_ms: int) -> list[Candles]:
    """Only what opened since."""
    starts = [int(np.searchsorted(candles.open_time, time_ms)) for candles in series]
    return [candles.between(start, len(candles)) for candles, start in zip(series, starts, strict=True)]


def _changes(whole: BacktestResult, cut: BacktestResult) -> Iterator[Change]:
    """Differences before the last cycle of the cut run, whose trades have no candle to fill at any more."""
    shared = np.isin(cut.timeline.times, whole.timeline.times)[:-1].sum()
    last_ms = int(cut.timeline.times[-1])
    for place, node_id in enumerate(whole.timeline.nodes):
        decided, less = _words(whole, place, int(shared)), _words(cut, place, int(shared))
        for cycle in np.flatnonzero(decided != less).tolist()[:1]:
            if less[cycle] != "terminated":
                yield Change(int(cut.timeline.times[cycle]), node_id, str(decided[cycle]), str(less[cycle]))
    for full, short in zip(whole.trades, cut.trades, strict=False):
        if full.filled_ms < last_ms and full.receipt != short.receipt:
            amounts = (f"{t.receipt.amount_in} for {t.receipt.amount_out}" for t in (full, short))
            yield Change(full.decided_ms, full.node_id, *amounts)
            return


def _words(result: BacktestResult, node: int, cycles: int) -> NDArray[np.object_]:
    """What the node did in each cycle, in words that do not depend on the run."""
    known = np.array([_said(d.status, d.handles) for d in result.timeline.decisions], dtype=object)
    words: NDArray[np.object_] = known[result.timeline.codes[node, :cycles]]
    return words


def _said(status: str | None, handles: Sequence[str]) -> str:
    return f"{status or 'left out'} {', '.join(handles)}".strip()


def _settling(flow: TestedFlow, whole: BacktestResult, late: BacktestResult, start_ms: int) -> Settling:
    """Of the nodes that do not depend on what was traded: two runs begun at other times hold other things."""
    shared = np.isin(whole.timeline.times, late.timeline.times)
    begin = int(np.searchsorted(late.timeline.times, whole.timeline.times[shared][0])) if shared.any() else 0
    count, last, moved = int(shared.sum()), -1, []
    first = int(np.flatnonzero(shared)[0]) if shared.any() else 0
    for place in _free_of_trades(flow):
        decided = _words(whole, place, len(whole.timeline.times))[first : first + count]
        differs = np.flatnonzero(decided != _words(late, place, begin + count)[begin:])
        if len(differs):
            last = max(last, int(differs[-1]))
            moved.append(whole.timeline.nodes[place])
    return Settling(start_ms, last + 1, tuple(moved), last + 1 < count)


def _free_of_trades(flow: TestedFlow) -> list[int]:
    trading = [node.index for node in flow.graph.nodes if flow.types[node.type].category == "trading"]
    return sorted(set(range(len(flow.graph.nodes))) - flow.graph.descendants(trading))
