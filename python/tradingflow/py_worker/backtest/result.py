"""What a backtest found, as JSON and CSV. The same backtest gives the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from tradingflow.py_worker.backtest import metrics
from tradingflow.py_worker.backtest.ledger import TradeRecord
from tradingflow.py_worker.backtest.timeline import Timeline
from tradingflow.py_worker.backtest.valuation import DUST, Curve, sum_legs
from tradingflow.py_worker.backtest.world import World
from tradingflow.py_worker.kit.intervals import interval_name

TRADE_COLUMNS = (
    "cycle", "node_id", "decided_at", "filled_at", "symbol", "side", "token_in", "token_out", "amount_in", "amount_out",
    "price", "gas", "trade_id", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """Shares are fractions (0.05 is 5 %), money is in whole quote tokens; None where a figure has no meaning."""

    initial_equity: float
    final_equity: float
    return_: float
    cagr: float | None
    volatility: float
    sharpe: float | None
    sortino: float | None
    max_drawdown: float
    max_drawdown_length_s: int
    trades: int
    closed_trades: int
    win_rate: float | None
    profit_factor: float | None
    exposure: float
    turnover: float
    fees: float
    gas: float
    buy_and_hold_return: float

    def as_json(self) -> dict[str, Any]:
        return {name.rstrip("_"): value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class BacktestResult:
    """`spec` is what was asked for; `curve` and `timeline` hold a point a candle and a byte a node and cycle."""

    flow_id: str
    version: int
    spec: Mapping[str, Any]
    world: World
    curve: Curve
    timeline: Timeline
    figures: Figures
    warnings: Sequence[str]

    @property
    def trades(self) -> Sequence[TradeRecord]:
        return self.world.ledger.trades

    def document(self, max_points: int | None = None) -> dict[str, Any]:
        """Everything as JSON; the equity curve thinned to about `max_points` where that is given."""
        ledger, timeline = self.world.ledger, self.timeline
        return {
            "flow_id": self.flow_id,
            "version": self.version,
            "spec": dict(self.spec),
            "from": told(int(timeline.times[0])),
            "to": told(int(timeline.times[-1])),
            "cycles": len(timeline.times),
            "markets": [self._market(place) for place in range(len(self.world.priced))],
            "figures": self.figures.as_json(),
            "final_balances": {token: str(amount) for token, amount in sorted(ledger.balances.items())},
            "trades": [self.trade(record) for record in self.trades],
            "refusals": dict(sorted(ledger.refusals.items())),
            "refused_trades": [{**asdict(r), "time_ms": told(r.time_ms)} for r in ledger.refused],
            "nodes": timeline.counts(),
            "failures": {
                "counts": [{"node_id": n, "error": c, "count": k} for (n, c), k in sorted(timeline.failed.items())],
                "first": [asdict(failure) for failure in timeline.failures[:100]],
            },
            "equity": self._points(max_points),
            "warnings": list(self.warnings),
        }

    def to_json(self, max_points: int | None = None) -> bytes:
        return orjson.dumps(self.document(max_points), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)

    def sha256(self) -> str:
        """Over every figure, trade, decision and point of the curve."""
        digest = hashlib.sha256(self.to_json(max_points=2))
        for column in (self.curve.times, self.curve.equity, self.curve.invested, self.curve.price):
            digest.update(column.tobytes())
        decisions, codes = self.timeline.canonical()
        digest.update(repr(decisions).encode() + codes.tobytes())
        return digest.hexdigest()

    def trades_csv(self) -> str:
        rows = [self.trade(record) for record in self.trades]
        return _csv(TRADE_COLUMNS, ([_cell(row[name]) for name in TRADE_COLUMNS] for row in rows))

    def equity_csv(self) -> str:
        curve = self.curve
        below = metrics.drawdowns(curve.equity)
        columns = (curve.equity, curve.invested, curve.price, below)
        rows = zip(map(told, curve.times.tolist()), *(column.tolist() for column in columns), strict=True)
        return _csv(("time", "equity", "invested", "price", "drawdown"), rows)

    def trade(self, record: TradeRecord) -> dict[str, Any]:
        """A trade with the signals that made it."""
        receipt, last = record.receipt, record.hops[-1]
        return {
            "cycle": record.cycle,
            "node_id": record.node_id,
            "decided_at": told(record.decided_ms),
            "filled_at": told(record.filled_ms),
            "symbol": last.market.symbol,
            "side": "sell" if last.sells_base else "buy",
            "token_in": receipt.token_in,
            "token_out": receipt.token_out,
            "amount_in": str(receipt.amount_in),
            "amount_out": str(receipt.amount_out),
            "price": str(last.bar.price),
            "gas": str(record.gas),
            "trade_id": receipt.trade_id,
            "reason": [asdict(signal) for signal in record.reason],
        }

    def _market(self, place: int) -> dict[str, Any]:
        market, cursor = self.world.priced[place]
        return {
            "symbol": market.symbol,
            "interval": interval_name(cursor.candles.interval_ms),
            "candles": len(cursor.candles),
            "pool": market.pool,
            "base_token": {"address": market.base.address, "decimals": market.base.decimals},
            "quote_token": {"address": market.quote.address, "decimals": market.quote.decimals},
        }

    def _points(self, most: int | None) -> list[list[Any]]:
        """[time, equity, price] at each close."""
        curve = self.curve
        kept = thinned(len(curve.times), most)
        columns = (curve.times[kept].tolist(), curve.equity[kept].tolist(), curve.price[kept].tolist())
        return [[told(time), *values] for time, *values in zip(*columns, strict=True)]


def compute_figures(world: World, curve: Curve) -> Figures:
    changes = metrics.returns(curve.equity)
    a_year = metrics.periods_a_year(curve.times)
    worst = metrics.worst_drawdown(curve.equity, curve.times)
    legs = sum_legs(world.ledger.trades)
    return Figures(
        initial_equity=float(curve.equity[0]),
        final_equity=float(curve.equity[-1]),
        return_=metrics.total_return(curve.equity),
        cagr=metrics.cagr(curve.equity, curve.times),
        volatility=metrics.volatility(changes, a_year),
        sharpe=metrics.sharpe(changes, a_year),
        sortino=metrics.sortino(changes, a_year),
        max_drawdown=worst.depth,
        max_drawdown_length_s=worst.length_ms // 1000,
        trades=len(world.ledger.trades),
        closed_trades=len(legs.profits),
        win_rate=metrics.win_rate(legs.profits),
        profit_factor=metrics.profit_factor(legs.profits),
        exposure=float(np.mean(curve.invested > DUST * np.abs(curve.equity))),
        turnover=float(legs.turnover) / max(float(np.mean(curve.equity)), 1e-300),
        fees=float(legs.fees),
        gas=float(world.ledger.gas),
        buy_and_hold_return=metrics.total_return(curve.price),
    )


def thinned(count: int, most: int | None) -> Any:
    """Positions of about `most` points, the first and the last among them."""
    if most is None or count <= most:
        return slice(None)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def told(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def _csv(header: Sequence[str], rows: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, list) else value
