"""Trades and prices of a backtest over the recorded history of pools: exact integers, in pools that trades move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tradingflow.chain.amm.pool import FEE_DENOMINATOR
from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address
from tradingflow.core.money import BPS
from tradingflow.py_worker.backtest.candle_venue import Bar, Hop
from tradingflow.py_worker.backtest.candles import Floats, Times
from tradingflow.py_worker.backtest.markets import Market
from tradingflow.py_worker.backtest.spec import FillModel, MarketSpec
from tradingflow.py_worker.backtest.tape import Cursor
from tradingflow.py_worker.backtest.world import Fills, Markets, World
from tradingflow.py_worker.simulation.pool_history import PoolBlock, PoolHistory
from tradingflow.py_worker.simulation.pool_markets import PoolMarkets, price_seen_from
from tradingflow.py_worker.simulation.pool_replay import PoolReplay
from tradingflow.py_worker.simulation.venue import Leg, PoolKey, PoolVenue


@dataclass(frozen=True)
class RecordedPool:
    """A pool to trade in, the symbol its prices go by, and how long the candles made of them are."""

    symbol: str
    interval_ms: int
    history: PoolHistory


class PoolTrading:
    """Trades fill in the pools as they stand after the last block."""

    def __init__(self, pools: Sequence[RecordedPool]) -> None:
        self._histories = {pool.history.address: pool.history for pool in pools}

    def fills(self, world: World) -> Fills:
        return HistoryVenue(world.priced, self._histories)

    def markets(self, world: World) -> Markets:
        world.clock.on_move = _Blocks(world, self._histories).move_to
        return HistoryMarkets(world, self._histories)


def require_plain_fills(model: FillModel) -> FillModel:
    """The model of a backtest over pools. Raises InvalidInput for what the pools themselves decide."""
    given = model.model_dump(exclude={"gas_cost"})
    told = [name for name, default in FillModel().model_dump(exclude={"gas_cost"}).items() if given[name] != default]
    if told:
        raise InvalidInput(
            "fill_model_unused",
            f"trades fill in the recorded pool, for what it would have paid: only gas_cost can be set, not {told[0]}",
        )
    return model.model_copy(update={"price": "close"})


def pool_markets(pools: Sequence[RecordedPool], asked: Sequence[MarketSpec]) -> tuple[MarketSpec, ...]:
    """What is known of each market from its pool. Of what was asked for, the base token counts.

    Raises InvalidInput for a market without a pool, pools that cannot be told apart or lie on several chains, and for a
    base token the pool does not hold.
    """
    symbols = [pool.symbol for pool in pools]
    bases = {market.symbol: market.base_token for market in asked}
    for symbol in bases:
        if symbol not in symbols:
            raise InvalidInput("no_pool", f"{symbol} is not the symbol of a pool; there are: {', '.join(symbols)}")
    if len({*symbols}) < len(pools) or len({pool.history.address for pool in pools}) < len(pools):
        raise InvalidInput("pool_twice", "each pool is given once, and under a symbol of its own")
    if len({pool.history.chain_id for pool in pools}) > 1:
        raise InvalidInput("several_chains", "the pools of a backtest lie on one chain")
    return tuple(_market(pool.symbol, pool.history, bases.get(pool.symbol)) for pool in pools)


def _market(symbol: str, history: PoolHistory, wanted: str | None) -> MarketSpec:
    base = parse_address(wanted) if wanted else history.base_token
    tokens = {history.pool.token0, history.pool.token1}
    if base not in tokens:
        raise InvalidInput("not_in_pool", f"{base} is not a token of the pool {history.address}")
    (quote,) = tokens - {base}
    return MarketSpec(
        symbol=symbol,
        pool=history.address,
        base_token=base,
        quote_token=quote,
        base_decimals=history.decimals(base),
        quote_decimals=history.decimals(quote),
        pool_fee=history.pool.fee,
        chain_id=history.chain_id,
    )


class _Blocks:
    """Lets the blocks of all pools happen up to a time."""

    def __init__(self, world: World, histories: Mapping[str, PoolHistory]) -> None:
        assert isinstance(world.fills, HistoryVenue)  # noqa: S101 (PoolTrading made it)
        keys = {address: history.key for address, history in histories.items()}
        self._replay = PoolReplay(world.chain, world.fills, keys)
        self._blocks = _merged(histories)
        self._done = 0

    def move_to(self, time_ms: int) -> None:
        blocks = self._blocks
        while self._done < len(blocks) and blocks[self._done].timestamp * 1000 <= time_ms:
            self._replay.follow(blocks[self._done])
            self._done += 1


def _merged(histories: Mapping[str, PoolHistory]) -> list[PoolBlock]:
    """The blocks of all pools in the order of the chain. Inside a block the pools do not touch each other."""
    blocks = (block for history in histories.values() for block in history.blocks)
    return sorted(blocks, key=lambda block: block.number)


class HistoryVenue(PoolVenue):
    """`Fills` in pools."""

    def __init__(self, priced: Sequence[tuple[Market, Cursor]], histories: Mapping[str, PoolHistory]) -> None:
        super().__init__({history.key: history.pool for history in histories.values()})
        self._priced = {histories[market.pool].key: (market, cursor) for market, cursor in priced}

    @property
    def filled(self) -> Sequence[Hop]:
        return [self._hop(leg) for leg in self.swapped]

    def cursors(self, path: bytes) -> list[Cursor]:
        """None: trades fill at once."""
        return []

    def _hop(self, leg: Leg) -> Hop:
        market, cursor = self._priced[leg.key]
        bar = Bar(cursor.closed() - 1, price_seen_from(leg.before, market.base, market.quote), 0.0)
        sells_base = leg.token_in == market.base.address
        fee_bps = Decimal(leg.before.fee) * BPS / FEE_DENOMINATOR
        return Hop(market, sells_base, leg.swapped.amount_in, leg.swapped.amount_out, bar, fee_bps)


class HistoryMarkets(PoolMarkets):
    """`Markets` of pools: nothing is known beforehand, for trades move the prices."""

    def __init__(self, world: World, histories: Mapping[str, PoolHistory]) -> None:
        keys: dict[str, PoolKey] = {address: history.key for address, history in histories.items()}
        decimals = {address: token.decimals for address, token in world.tokens.items()}
        quote = world.priced[0][0].quote.address
        super().__init__(world.vault.chain_id, world.executor, keys, decimals, quote)

    def pool_tokens(self, pool: str, base_token: str | None) -> tuple[str, str]:
        return self.sides(self.found(pool), base_token)

    def closes(self, pool: str, base_token: str | None, times: Times) -> Floats | None:
        return None
