"""The world of a backtest: markets, balances and trades at the moment the clock shows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import Protocol
from uuid import UUID

import numpy as np

from tradingflow.core.errors import Refused
from tradingflow.core.money import PRECISION
from tradingflow.py_worker.backtest.candle_venue import Hop, last_close
from tradingflow.py_worker.backtest.candles import Floats, Times
from tradingflow.py_worker.backtest.ledger import Ledger, TradeRecord
from tradingflow.py_worker.backtest.markets import Market
from tradingflow.py_worker.backtest.spec import FillModel
from tradingflow.py_worker.backtest.tape import Cursor, Tape, TapeClock
from tradingflow.py_worker.kit import (
    Incoming,
    MarketData,
    SwapIntent,
    TradeGateway,
    TradeReceipt,
)
from tradingflow.py_worker.simulation.gateway import (
    NodeIdentity,
    SimulatedChain,
    SimulatedExecutor,
    SimulatedTrades,
)
from tradingflow.py_worker.simulation.vault import SimulatedVault
from tradingflow.py_worker.simulation.venue import Venue

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


@dataclass(frozen=True)
class Run:
    """Whose trades these are: their ids are those of the live flow."""

    flow_pk: UUID
    version: int


@dataclass(frozen=True)
class BacktestTrades:
    """`TradeGateway` of one node in one cycle: waits for the candle a swap fills at, then asks the simulated vault."""

    world: World
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


class World:
    """Everything outside the nodes: one chain, one vault, and markets whose value candles tell."""

    def __init__(
        self,
        tape: Tape,
        clock: TapeClock,
        markets: Sequence[Market],
        model: FillModel,
        vault: SimulatedVault,
        run: Run,
        trading: Trading,
    ) -> None:
        self.clock = clock
        self.tape = tape
        self.model = model
        self.run = run
        self.vault = vault
        self.ledger = Ledger(vault.balances)
        self.priced = [(market, tape.cursor(tape.finest(market.symbol))) for market in markets]
        self.tokens = {token.address: token for market in markets for token in (market.base, market.quote)}
        self.fills = trading.fills(self)
        self.chain = SimulatedChain(self.fills, ROUTER, ClosePrices(self.priced), V2_ROUTER)
        self.executor = SimulatedExecutor(clock, {vault.chain_id: self.chain}, {(vault.chain_id, vault.address): vault})
        self.markets = trading.markets(self)

    def trades(self, cycle: int, node_id: str, incoming: Callable[[], Sequence[Incoming]]) -> TradeGateway:
        """The gateway of one node in one cycle; `incoming` gives the signals behind a trade."""
        return BacktestTrades(self, NodeIdentity(self.run.flow_pk, self.run.version, cycle, node_id), incoming)

    def fills_at_once(self, times: Times) -> bool:
        """Whether a trade decided at any of these times fills before the clock moves on."""
        if self.model.price == "close":
            return True
        # The last of all times may have nothing to fill at: it is cut off and delays nothing.
        return all(bool(np.isin(times[:-1], cursor.candles.open_time).all()) for _, cursor in self.priced)


class Fills(Venue, Protocol):
    """Where the trades of a backtest fill."""

    @property
    def filled(self) -> Sequence[Hop]:
        """The legs of the last swap."""
        ...

    def cursors(self, path: bytes) -> list[Cursor]:
        """The series whose next candle a swap along `path` waits for, where it fills at an open."""
        ...


class Markets(MarketData, Protocol):
    """What nodes ask of the markets, and what of it is known for all times at once."""

    def pool_tokens(self, pool: str, base_token: str | None) -> tuple[str, str]:
        """Base and quote token as `pool_price` orients them. Raises as it does."""
        ...

    def closes(self, pool: str, base_token: str | None, times: Times) -> Floats | None:
        """The pool's price at each of the times, NaN before the first; None where that is not known beforehand."""
        ...


class Trading(Protocol):
    """How trades fill, and what nodes see of the markets. Asked in this order, once a world."""

    def fills(self, world: World) -> Fills: ...

    def markets(self, world: World) -> Markets: ...


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
