"""What a backtest's vault holds, and every trade that changed it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tradingflow.core.errors import Refused
from tradingflow.py_worker.backtest.candle_venue import Hop
from tradingflow.py_worker.kit import Incoming, TradeReceipt
from tradingflow.py_worker.simulation.gateway import NodeIdentity

# A vault run dry refuses in every cycle; the first refusals say it all.
MAX_REFUSED = 1_000


@dataclass(frozen=True, slots=True)
class TradeRecord:
    """A filled trade: what it was, when it filled, and why it was made: `reason` are the signals behind it."""

    cycle: int
    node_id: str
    decided_ms: int
    filled_ms: int
    receipt: TradeReceipt
    hops: Sequence[Hop]
    gas: Decimal
    reason: Sequence[Incoming]


@dataclass(frozen=True, slots=True)
class RefusedTrade:
    """A trade that was asked for and not made."""

    cycle: int
    node_id: str
    time_ms: int
    code: str
    detail: str


@dataclass
class Ledger:
    """`balances` are the vault's, in base units by token address. `gas` is what trades cost, in whole quote tokens.

    `refusals` counts by code; `refused` keeps the first of them with their sentences.
    """

    balances: Mapping[str, int]
    trades: list[TradeRecord] = field(default_factory=list)
    refused: list[RefusedTrade] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    gas: Decimal = Decimal(0)

    def keep(self, trade: TradeRecord) -> None:
        self.trades.append(trade)
        self.gas += trade.gas

    def refuse(self, identity: NodeIdentity, time_ms: int, error: Refused) -> None:
        self.refusals[error.code] += 1
        if len(self.refused) < MAX_REFUSED:
            self.refused.append(RefusedTrade(identity.cycle, identity.node_id, time_ms, error.code, error.detail))
