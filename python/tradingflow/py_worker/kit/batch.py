"""All cycles of a backtest at once, for nodes that can: `Node.batch` gives what `run` would have given, bit for bit.

A batch form is an optional speed-up. A node that has none, or declines, is run cycle by cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tradingflow.py_worker.kit.handles import Json
from tradingflow.py_worker.kit.markets import CandleQuery

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """What one output handle gave, cycle by cycle; only where `taken` has it a meaning.

    `value(i)` is the JSON of cycle i. `numbers` holds the same as doubles where every value is a number or text of one.
    """

    taken: Flags
    value: Callable[[int], Json]
    numbers: Floats | None = None


@dataclass(frozen=True)
class CandleWindows(Column):
    """Candles as `{header, kline_data}`: in cycle i rows `starts[i]` to `ends[i]` of `columns`."""

    columns: Mapping[str, Floats] = field(default_factory=dict)
    starts: Sequence[int] = ()
    ends: Sequence[int] = ()


@dataclass(frozen=True)
class BatchInput:
    """An edge into the node with the column that travels on it."""

    source_handle: str
    target_handle: str
    column: Column


@dataclass(frozen=True)
class Idle:
    """In the cycles `when`, a run does nothing but complete without outputs while the vault holds none of `token`."""

    token: str
    when: Flags


class BatchTape(Protocol):
    """What history can tell for all cycles at once; None where it depends on what the flow does."""

    def candle_windows(self, query: CandleQuery) -> tuple[Mapping[str, Floats], Sequence[int], Sequence[int]]:
        """Columns with `open_time`; of each cycle the first row and the one after the last. Raises as `candles`."""
        ...

    def pool_prices(self, chain_id: int, pool: str, base_token: str | None) -> Floats | None:
        """The pool's price in each cycle, NaN where there was none; None when trades move it."""
        ...

    def pool_tokens(self, pool: str, base_token: str | None) -> tuple[str, str]:
        """Base and quote token of a pool, as `MarketData.pool_price` orients them."""
        ...


@dataclass(frozen=True)
class BatchRun:
    """`ran` says in which cycles the node runs. `every_cycle` is False when a cycle may be left out because the one
    before was still open: then a node that remembers must not be batched."""

    tape: BatchTape
    ran: Flags
    inputs: Sequence[BatchInput]
    every_cycle: bool

    @property
    def cycles(self) -> int:
        return len(self.ran)

    def by_target(self) -> dict[str, Column]:
        return {given.target_handle: given.column for given in self.inputs}


def positions(numbers: NDArray[np.int64]) -> Sequence[int]:
    """As Python integers one at a time: a list of a million of them takes five times the memory."""
    return memoryview(np.ascontiguousarray(numbers))  # type: ignore[arg-type]


def number_column(taken: Flags, numbers: Floats) -> Column:
    """Doubles that travel as JSON numbers."""
    return Column(taken, lambda i: float(numbers[i]), numbers)
