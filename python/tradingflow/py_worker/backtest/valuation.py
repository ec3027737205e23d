"""From trades and candles to an equity curve, positions and profits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np

from tradingflow.core.money import BPS, PRECISION, to_human
from tradingflow.py_worker.backtest.candle_venue import Hop
from tradingflow.py_worker.backtest.candles import Candles, Floats, Times
from tradingflow.py_worker.backtest.ledger import TradeRecord
from tradingflow.py_worker.backtest.world import World

# A position worth less than this share of equity is dust, not exposure.
DUST = 1e-6


@dataclass(frozen=True)
class Curve:
    """At each close: equity and the part of it that is not in the quote token, in whole quote tokens, gas paid off."""

    times: Times
    equity: Floats
    invested: Floats
    price: Floats
    unpriced: tuple[str, ...]


def equity_curve(world: World, initial: Mapping[str, int], times: Times) -> Curve:
    """Points are the closes of the first market's candles from the first fire time to the last fire time or fill."""
    market, cursor = world.priced[0]
    grid = _grid(cursor.candles, times, world.ledger.trades)
    steps = _Steps(grid, world.ledger.trades, at_close=world.model.price == "close")
    quote = market.quote.address
    prices = _prices(world, grid)
    held = {*initial, *world.tokens}
    invested = np.zeros(len(grid))
    for token in sorted(held & prices.keys()):
        invested += steps.balance(token, initial.get(token, 0), world.tokens[token].decimals) * prices[token]
    cash = steps.balance(quote, initial.get(quote, 0), market.quote.decimals)
    unpriced = tuple(sorted(t for t in held - prices.keys() - {quote} if initial.get(t, 0) or steps.moves(t)))
    return Curve(grid, cash + invested - steps.gas(), invested, prices[market.base.address], unpriced)


def _grid(candles: Candles, times: Times, trades: Sequence[TradeRecord]) -> Times:
    closes = candles.close_time
    end = int(times[-1])
    if trades and (last := trades[-1].filled_ms) >= end:
        end = int(closes[min(int(np.searchsorted(closes, last, "right")), len(closes) - 1)])
    kept: Times = closes[(closes >= times[0]) & (closes <= end)]
    return kept


def _prices(world: World, grid: Times) -> dict[str, Floats]:
    """Base token to its close in the quote token of the first market, as known at each point."""
    quote = world.priced[0][0].quote.address
    found: dict[str, Floats] = {}
    for market, cursor in world.priced:
        if market.quote.address == quote and market.base.address not in found:
            closed = np.searchsorted(cursor.candles.close_time, grid, "right")
            found[market.base.address] = np.where(closed > 0, cursor.candles.close[np.maximum(closed - 1, 0)], 0.0)
    return found


class _Steps:
    """Balances as step functions over the grid; a fill at an open shows at the close after it."""

    def __init__(self, grid: Times, trades: Sequence[TradeRecord], *, at_close: bool) -> None:
        self._grid = grid
        self._trades = trades
        filled = np.array([trade.filled_ms for trade in trades], np.int64)
        self._first = np.searchsorted(grid, filled, "left" if at_close else "right")

    def moves(self, token: str) -> bool:
        return any(token in (t.receipt.token_in, t.receipt.token_out) for t in self._trades)

    def balance(self, token: str, initial: int, decimals: int) -> Floats:
        """Whole tokens at each point; summed as integers first, so no rounding adds up."""
        amounts = [initial]
        for trade in self._trades:
            change = trade.receipt.amount_out if trade.receipt.token_out == token else 0
            change -= trade.receipt.amount_in if trade.receipt.token_in == token else 0
            amounts.append(amounts[-1] + change)
        return self._spread([float(to_human(amount, decimals)) for amount in amounts])

    def gas(self) -> Floats:
        paid = [Decimal(0)]
        for trade in self._trades:
            paid.append(paid[-1] + trade.gas)
        return self._spread([float(total) for total in paid])

    def _spread(self, values: Sequence[float]) -> Floats:
        """Each value from its trade's point to the next trade's."""
        bounds = np.concatenate([[0], self._first, [len(self._grid)]])
        return np.repeat(np.array(values), np.diff(np.minimum(bounds, len(self._grid))))


@dataclass(frozen=True)
class Legs:
    """What the legs of all trades add up to, in whole quote tokens of each leg's market.

    `profits`: of every leg that sold base tokens bought before, proceeds less their average cost, fees in both.
    """

    profits: list[float]
    fees: Decimal
    turnover: Decimal


def sum_legs(trades: Sequence[TradeRecord]) -> Legs:
    positions: dict[str, _Position] = {}
    profits: list[float] = []
    fees = turnover = Decimal(0)
    with localcontext() as context:
        context.prec = PRECISION
        for hop in (hop for trade in trades for hop in trade.hops):
            gross = _gross(hop)
            turnover += gross
            fees += gross * hop.fee_bps / BPS
            position = positions.setdefault(hop.market.base.address, _Position())
            if hop.sells_base:
                profit = position.sell(hop.amount_in, to_human(hop.amount_out, hop.market.quote.decimals))
                profits += [] if profit is None else [float(profit)]
            else:
                position.buy(hop.amount_out, to_human(hop.amount_in, hop.market.quote.decimals))
    return Legs(profits, fees, turnover)


def _gross(hop: Hop) -> Decimal:
    """What was sold, in whole quote tokens at the price of the candle."""
    if hop.sells_base:
        return to_human(hop.amount_in, hop.market.base.decimals) * hop.bar.price
    return to_human(hop.amount_in, hop.market.quote.decimals)


@dataclass
class _Position:
    """Base tokens bought in the backtest, at average cost. What was held before it has no cost and closes nothing."""

    amount: int = 0
    cost: Decimal = Decimal(0)

    def buy(self, amount: int, paid: Decimal) -> None:
        self.amount += amount
        self.cost += paid

    def sell(self, amount: int, received: Decimal) -> Decimal | None:
        closing = min(amount, self.amount)
        if closing == 0:
            return None
        cost = self.cost * closing / self.amount
        self.amount -= closing
        self.cost -= cost
        return received * closing / amount - cost
