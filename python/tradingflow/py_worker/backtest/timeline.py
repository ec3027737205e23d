"""What every node did in every cycle, in one byte each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tradingflow.py_worker.engine.cycle import Ending

Codes = NDArray[np.uint8]
# Kept with their sentences; beyond that failures are counted only.
MAX_FAILURES = 1_000


@dataclass(frozen=True)
class Decision:
    """How a node task ended and which output handles it took. `None`: the cycle was left out."""

    status: Ending | None
    handles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    cycle: int
    node_id: str
    code: str
    detail: str


@dataclass
class Timeline:
    """`codes[node, cycle]` is a position in `decisions`. `times` are the fire times in Unix milliseconds."""

    nodes: Sequence[str]
    times: NDArray[np.int64]
    codes: Codes = field(init=False)
    decisions: list[Decision] = field(default_factory=lambda: [Decision(None)])
    failures: list[Failure] = field(default_factory=list)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.codes = np.zeros((len(self.nodes), len(self.times)), np.uint8)
        self._known = {self.decisions[0]: 0}

    def code(self, status: Ending, handles: tuple[str, ...] = ()) -> int:
        """Raises OverflowError for more different decisions than a byte can name."""
        decision = Decision(status, tuple(sorted(handles)))
        found = self._known.get(decision)
        if found is None:
            found = len(self.decisions)
            if found > np.iinfo(np.uint8).max:
                raise OverflowError("a flow takes too many different sets of handles")
            self._known[decision] = found
            self.decisions.append(decision)
        return found

    def batch(self, node: int, ran: NDArray[np.bool_], taken: Mapping[str, NDArray[np.bool_]]) -> None:
        """The decisions of a node for all cycles."""
        handles = list(taken)
        bits = np.zeros(len(ran), np.int64)
        for place, handle in enumerate(handles):
            bits |= taken[handle].astype(np.int64) << place
        row = self.codes[node]
        row[~ran] = self.code("skipped")
        for value in np.unique(bits[ran]).tolist():
            combination = tuple(handle for place, handle in enumerate(handles) if value >> place & 1)
            row[ran & (bits == value)] = self.code("completed", combination)

    def fail(self, failure: Failure) -> None:
        self.failed[failure.node_id, failure.code] += 1
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(failure)

    def canonical(self) -> tuple[list[Decision], Codes]:
        """The decisions taken, in alphabetical order, and the codes that name them; the same for equal runs."""
        used = sorted(np.unique(self.codes).tolist(), key=lambda code: str(self.decisions[code]))
        renumbered = np.zeros(len(self.decisions), np.uint8)
        renumbered[used] = np.arange(len(used), dtype=np.uint8)
        return [self.decisions[code] for code in used], renumbered[self.codes]

    def counts(self) -> dict[str, dict[str, int]]:
        """Node to status to number of cycles."""
        found: dict[str, dict[str, int]] = {}
        for node, row in zip(self.nodes, self.codes, strict=True):
            counted: Counter[str] = Counter()
            for code, count in enumerate(np.bincount(row, minlength=len(self.decisions)).tolist()):
                if count:
                    counted[self.decisions[code].status or "left_out"] += count
            found[node] = dict(sorted(counted.items()))
        return found
