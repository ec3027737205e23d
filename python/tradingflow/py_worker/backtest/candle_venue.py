"""Trades against candles: exact integers out of prices that exchanges wrote as decimals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, localcontext
from itertools import pairwise

from tradingflow.chain.swap_path import decode_path
from tradingflow.core.errors import Refused
from tradingflow.core.money import BPS, PRECISION
from tradingflow.py_worker.backtest.markets import Market
from tradingflow.py_worker.backtest.spec import FillModel
from tradingflow.py_worker.backtest.tape import Cursor
from tradingflow.py_worker.simulation.venue import Accept, Fill, accept_any


@dataclass(frozen=True, slots=True)
class Bar:
    """The price a trade meets, and the candle it comes from."""

    position: int
    price: Decimal
    volume: float


PriceOf = Callable[[Cursor], Bar]


def last_close(cursor: Cursor) -> Bar:
    """What is known now. Raises Refused before the first candle has closed."""
    position = cursor.closed() - 1
    if position < 0:
        raise Refused("no_price_yet", f"no candle of {cursor.candles.symbol} has closed yet")
    return _bar(cursor, position, cursor.candles.close[position])


def opening(cursor: Cursor) -> Bar:
    """The first price from now on."""
    position = cursor.next_to_open()
    if position is None:
        raise Refused("data_ended", f"the candles of {cursor.candles.symbol} end before the trade could fill")
    return _bar(cursor, position, cursor.candles.open[position])


def _bar(cursor: Cursor, position: int, price: float) -> Bar:
    return Bar(position, Decimal(repr(float(price))), float(cursor.candles.volume[position]))


@dataclass(frozen=True, slots=True)
class Hop:
    """One leg of a fill. Amounts in base units; the bar's price is before fee and slippage."""

    market: Market
    sells_base: bool
    amount_in: int
    amount_out: int
    bar: Bar
    fee_bps: Decimal


class CandleVenue:
    """`Venue` that prices each hop by the candles of its market; a trade does not move them."""

    def __init__(self, markets: Sequence[tuple[Market, Cursor]], model: FillModel, price_of: PriceOf) -> None:
        self._markets = markets
        self._model = model
        self._price_of = price_of
        self.filled: Sequence[Hop] = ()
        """The legs of the last swap."""
        with localcontext() as context:
            context.prec = PRECISION
            self._after_fee = 1 - model.fee_bps / BPS
            self._after_slippage = 1 - model.slippage_bps / BPS

    def quote(self, path: bytes, amount_in: int) -> int:
        """What selling `amount_in` brings, fee taken, without slippage."""
        hops = self.hops(path, amount_in, Decimal(1))
        return hops[-1].amount_out

    def swap(self, path: bytes, amount_in: int, accept: Accept = accept_any) -> Fill:
        """What a trade gets. Raises Refused("volume_limit", …) for more than the candle can bear."""
        hops = self.hops(path, amount_in, self._after_slippage)
        for hop in hops:
            self._check_volume(hop)
        fill = Fill(amount_in, hops[-1].amount_out)
        accept(fill)
        self.filled = hops
        return fill

    def hops(self, path: bytes, amount_in: int, left: Decimal) -> list[Hop]:
        """The legs of a swap; `left` is what slippage leaves of the price."""
        tokens = decode_path(path).tokens
        found: list[Hop] = []
        for token_in, token_out in pairwise(tokens):
            market, cursor = self.market(token_in, token_out)
            hop = self._hop(market, self._price_of(cursor), token_in, amount_in, left)
            found.append(hop)
            amount_in = hop.amount_out
        return found

    def cursors(self, path: bytes) -> list[Cursor]:
        """The series a swap along `path` is priced by."""
        tokens = decode_path(path).tokens
        return [self.market(a, b)[1] for a, b in pairwise(tokens)]

    def market(self, token_a: str, token_b: str) -> tuple[Market, Cursor]:
        for market, cursor in self._markets:
            if market.trades(token_a, token_b):
                return market, cursor
        raise Refused("no_pool", f"no candles price {token_a} against {token_b}")

    def _hop(self, market: Market, bar: Bar, token_in: str, amount_in: int, left: Decimal) -> Hop:
        sells_base = token_in == market.base.address
        with localcontext() as context:
            context.prec = PRECISION
            paid = Decimal(amount_in) * self._after_fee * left
            scale = market.quote.decimals - market.base.decimals
            exact = (paid * bar.price).scaleb(scale) if sells_base else (paid / bar.price).scaleb(-scale)
            amount_out = int(exact.to_integral_value(ROUND_FLOOR))
        return Hop(market, sells_base, amount_in, amount_out, bar, self._model.fee_bps)

    def _check_volume(self, hop: Hop) -> None:
        if self._model.volume_limit is None:
            return
        base_amount = hop.amount_in if hop.sells_base else hop.amount_out
        with localcontext() as context:
            context.prec = PRECISION
            limit = Decimal(repr(hop.bar.volume)) * self._model.volume_limit
            traded = Decimal(base_amount).scaleb(-hop.market.base.decimals)
            if traded > limit:
                raise Refused(
                    "volume_limit", f"{traded:.8g} is more than {limit:.8g}, the share of its candle a trade may take"
                )
