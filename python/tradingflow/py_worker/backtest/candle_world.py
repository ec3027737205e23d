"""The world of a backtest over candles: markets, balances and trades at the moment the clock shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal, localcontext
from uuid import UUID

import numpy as np

from tradingflow.chain.pool_math import invert, rate
from tradingflow.chain.swap_path import decode_path
from tradingflow.core.errors import InvalidInput, NotFound, Refused
from tradingflow.core.evm import parse_address
from tradingflow.core.money import PRECISION
from tradingflow.py_worker.backtest.candle_venue import CandleVenue, last_close, opening
from tradingflow.py_worker.backtest.candles import Floats, Times
from tradingflow.py_worker.backtest.ledger import Ledger, TradeRecord
from tradingflow.py_worker.backtest.markets import Market
from tradingflow.py_worker.backtest.spec import FillModel
from tradingflow.py_worker.backtest.tape import Cursor, Tape, TapeClock
from tradingflow.py_worker.kit import Incoming, PoolPrice, Quote, SwapIntent, TokenInfo, TradeGateway, TradeReceipt
from tradingflow.py_worker.kit.markets import price_of
from tradingflow.py_worker.simulation.gateway import (
    NodeIdentity,
    SimulatedChain,
    SimulatedExecutor,
    SimulatedTrades,
)
from tradingflow.py_worker.simulation.vault import SimulatedVault

# Candles know no router; whichever a trade names, the vault of a backtest sees one of these two, which it allows.
ROUTER = "0x0000000000000000000000000000000000000002"
V2_ROUTER = "0x0000000000000000000000000000000000000003"


class DataEnded(Refused):
    """The candles end before something that was waited for: the cycle is cut off, it did not fail."""


class Until:
    """Awaited inside a node, it lets the driver move the clock to `time_ms` first."""

    def __init__(self, time_ms: int) -> None:
        self.time_ms = time_ms

    def __await__(self) -> Generator[Until, None, None]:
        yield self


class TapeMarkets:
    """`MarketData` of the candles' markets; a pool's price is the last close."""

    def __init__(
        self, markets: Sequence[tuple[Market, Cursor]], venue: CandleVenue, clock: TapeClock, vault: SimulatedVault
    ) -> None:
        self._pools = {market.pool: (market, cursor) for market, cursor in markets}
        self._tokens = {token.address: token for market, _ in markets for token in (market.base, market.quote)}
        self._quote_token = markets[0][0].quote.address if markets else None
        self._venue = venue
        self._clock = clock
        self._vault = vault
        self._prices: dict[tuple[str, str | None], tuple[int, PoolPrice]] = {}

    async def token(self, chain_id: int, address: str) -> TokenInfo:
        found = self._tokens.get(address) or self._tokens.get(parse_address(address))
        if found is None:
            raise Refused("unknown_token", f"no candles price the token {address}")
        return found

    async def pool_price(self, chain_id: int, pool: str, base_token: str | None = None) -> PoolPrice:
        market, cursor = self._market(pool)
        closed = cursor.closed()
        known = self._prices.get((pool, base_token))
        if known is None or known[0] != closed:
            price = self._oriented(market, last_close(cursor).price, base_token, closed)
            known = self._prices[pool, base_token] = closed, price
        return known[1]

    async def pool_twap(self, chain_id: int, pool: str, window_s: int, base_token: str | None = None) -> PoolPrice:
        """The geometric mean, as a Uniswap V3 oracle's mean tick gives, with each close standing until the next."""
        market, cursor = self._market(pool)
        last_close(cursor)
        now, closed, candles = self._clock.now_ms, cursor.closed(), cursor.candles
        since = now - window_s * 1000
        first = max(candles.closed_by(since) - 1, 0)
        times = np.clip(np.append(candles.close_time[first:closed], now), since, now)
        weights = np.diff(times)
        logs = np.log(candles.close[first:closed])
        mean = float(np.dot(logs, weights) / weights.sum()) if weights.sum() else float(logs[-1])
        return self._oriented(market, price_of(math.exp(mean)), base_token, closed)

    async def quote(self, chain_id: int, path: bytes, amount_in: int, router: str | None = None) -> Quote:
        tokens = decode_path(path).tokens
        token_in, token_out = await self.token(chain_id, tokens[0]), await self.token(chain_id, tokens[-1])
        amount_out = self._venue.quote(path, amount_in)
        if amount_out == 0:
            raise Refused("quote_failed", f"{amount_in} base units are worth less than one of {token_out.address}")
        price = rate(amount_in, token_in.decimals, amount_out, token_out.decimals)
        return Quote(token_in, token_out, amount_in, amount_out, price)

    async def balances(self, chain_id: int, holder: str, tokens: Sequence[str]) -> dict[str, int]:
        held: Mapping[str, int] = self._vault.balances if holder == self._vault.address else {}
        return {token: held.get(token, 0) for token in tokens}

    def quote_token(self, chain_id: int) -> str | None:
        return self._quote_token

    def pools(self, chain_id: int) -> tuple[str, ...]:
        return tuple(self._pools)

    def pool_tokens(self, pool: str, base_token: str | None) -> tuple[str, str]:
        market, _ = self._market(pool)
        tokens = market.base.address, market.quote.address
        return tokens[::-1] if base_token == tokens[1] else tokens

    def closes(self, pool: str, base_token: str | None, times: Times) -> Floats | None:
        """The pool's price at each of the times, NaN before the first close; None for the price the other way round."""
        market, cursor = self._market(pool)
        if base_token not in (None, market.base.address):
            return None
        closed = np.searchsorted(cursor.candles.close_time, times, "right")
        return np.where(closed > 0, cursor.candles.close[np.maximum(closed - 1, 0)], np.nan)

    def _market(self, pool: str) -> tuple[Market, Cursor]:
        found = self._pools.get(pool)
        if found is None:
            raise NotFound("pool", pool)
        return found

    def _oriented(self, market: Market, price: Decimal, base_token: str | None, position: int) -> PoolPrice:
        base, quote = market.base, market.quote
        if base_token == quote.address:
            base, quote, price = quote, base, invert(price)
        elif base_token not in (None, base.address):
            raise InvalidInput("not_in_pool", f"{base_token} is not a token of the pool {market.pool}")
        return PoolPrice(market.chain_id, market.pool, base, quote, price, market.fee, position)


@dataclass(frozen=True)
class Run:
    """Whose trades these are: their ids are those of the live flow."""

    flow_pk: UUID
    version: int


@dataclass(frozen=True)
class CandleTrades:
    """`TradeGateway` of one node in one cycle: waits for the candle a swap fills at, then asks the simulated vault."""

    world: CandleWorld
    identity: NodeIdentity
    incoming: Callable[[], Sequence[Incoming]]

    async def swap(self, intent: SwapIntent) -> TradeReceipt:
        """Raises Refused as the vault would, DataEnded when there is no candle left to fill at."""
        world, decided_ms = self.world, self.world.clock.now_ms
        if world.model.price == "next_open":
            await Until(self._opens_at(intent.path))
        try:
            receipt = await self._gateway().swap(replace(intent, router=None))
        except Refused as error:
            world.ledger.refuse(self.identity, world.clock.now_ms, error)
            raise
        world.ledger.keep(
            TradeRecord(
                self.identity.cycle,
                self.identity.node_id,
                decided_ms,
                world.clock.now_ms,
                receipt,
                world.fills.filled,
                world.model.gas_cost,
                self.incoming(),
            )
        )
        return receipt

    async def resume(self) -> TradeReceipt | None:
        """None: in a backtest a node runs once in a cycle, so there is no earlier run to find."""
        return None

    def _gateway(self) -> SimulatedTrades:
        return SimulatedTrades(self.world.executor, self.identity, self.world.markets)

    def _opens_at(self, path: bytes) -> int:
        opens = 0
        for cursor in self.world.fills.cursors(path):
            position = cursor.next_to_open()
            if position is None:
                raise DataEnded("data_ended", f"the candles of {cursor.candles.symbol} end before the trade could fill")
            opens = max(opens, int(cursor.candles.open_time[position]))
        return opens


class CandleWorld:
    """Everything outside the nodes: one chain, one vault, and markets that candles price."""

    def __init__(
        self,
        tape: Tape,
        clock: TapeClock,
        markets: Sequence[Market],
        model: FillModel,
        vault: SimulatedVault,
        run: Run,
    ) -> None:
        self.clock = clock
        self.tape = tape
        self.model = model
        self.run = run
        self.vault = vault
        self.ledger = Ledger(vault.balances)
        self.priced = [(market, tape.cursor(tape.finest(market.symbol))) for market in markets]
        self.tokens = {token.address: token for market in markets for token in (market.base, market.quote)}
        self.fills = CandleVenue(self.priced, model, opening if model.price == "next_open" else last_close)
        self.markets = TapeMarkets(self.priced, CandleVenue(self.priced, model, last_close), clock, vault)
        chain = SimulatedChain(self.fills, ROUTER, ClosePrices(self.priced), V2_ROUTER)
        self.executor = SimulatedExecutor(clock, {vault.chain_id: chain}, {(vault.chain_id, vault.address): vault})

    def trades(self, cycle: int, node_id: str, incoming: Callable[[], Sequence[Incoming]]) -> TradeGateway:
        """The gateway of one node in one cycle; `incoming` gives the signals behind a trade."""
        return CandleTrades(self, NodeIdentity(self.run.flow_pk, self.run.version, cycle, node_id), incoming)

    def fills_at_once(self, times: Times) -> bool:
        """Whether a trade decided at any of these times fills before the clock moves on."""
        if self.model.price == "close":
            return True
        # The last of all times may have nothing to fill at: it is cut off and delays nothing.
        return all(bool(np.isin(times[:-1], cursor.candles.open_time).all()) for _, cursor in self.priced)


class ClosePrices:
    """`PriceSource` of a loss cap: base units of the first market's quote token, at the last close."""

    def __init__(self, priced: Sequence[tuple[Market, Cursor]]) -> None:
        self._quote = priced[0][0].quote.address
        self._priced = {market.base.address: (market, cursor) for market, cursor in reversed(priced)}

    def value_of(self, token: str, amount: int) -> int:
        if token == self._quote:
            return amount
        if token not in self._priced:
            raise Refused("price_unavailable", f"no candles price {token}")
        market, cursor = self._priced[token]
        with localcontext() as context:
            context.prec = PRECISION
            value = Decimal(amount) * last_close(cursor).price
            return int(value.scaleb(market.quote.decimals - market.base.decimals).to_integral_value(ROUND_FLOOR))
