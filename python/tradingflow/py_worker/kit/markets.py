"""What a node may ask about markets, and how it trades. Live, paper and backtest each bring their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from tradingflow.chain.swap_path import decode_path
from tradingflow.core.config import ChainSettings
from tradingflow.py_worker.kit.handles import Amount


def price_of(number: float) -> Decimal:
    """The shortest decimal number that is this double: what an exchange wrote."""
    return Decimal(repr(float(number)))


@dataclass(frozen=True)
class TokenInfo:
    """A token as its contract describes it."""

    address: str
    decimals: int
    symbol: str | None = None


@dataclass(frozen=True)
class PoolPrice:
    """Whole `quote_token` for one whole `base_token`, without the pool's fee, at `block_number`.

    `fee` is in hundredths of a basis point, `kind` says how a path through this pool is written.
    """

    chain_id: int
    pool: str
    base_token: TokenInfo
    quote_token: TokenInfo
    price: Decimal
    fee: int
    block_number: int
    kind: Literal["v2", "v3"] = "v3"


@dataclass(frozen=True)
class Quote:
    """What selling exactly `amount_in` along `path` would bring now. Amounts are base units.

    `price` is whole token out for one whole token in, fees and price impact included.
    """

    token_in: TokenInfo
    token_out: TokenInfo
    amount_in: int
    amount_out: int
    price: Decimal


class MarketData(Protocol):
    """Raises DependencyUnavailable when the source does not answer, Refused when it answers no (no such pool)."""

    async def token(self, chain_id: int, address: str) -> TokenInfo: ...

    async def pool_price(self, chain_id: int, pool: str, base_token: str | None = None) -> PoolPrice:
        """Spot price. Without `base_token` the base is the token that is not the chain's quote token, else token0."""
        ...

    async def pool_twap(self, chain_id: int, pool: str, window_s: int, base_token: str | None = None) -> PoolPrice:
        """Time-weighted average price over the last `window_s` seconds."""
        ...

    async def quote(self, chain_id: int, path: bytes, amount_in: int, router: str | None = None) -> Quote:
        """`path` as `chain.swap_path.encode_path` writes it.

        A V2 path is quoted on the pairs of `router` (or of the exchange of the pair named there); default: the chain's.
        """
        ...

    async def balances(self, chain_id: int, holder: str, tokens: Sequence[str]) -> dict[str, int]:
        """Token address to balance in base units; all read at one block."""
        ...

    def quote_token(self, chain_id: int) -> str | None:
        """Address of the token values on this chain are expressed in."""
        ...

    def pools(self, chain_id: int) -> tuple[str, ...]:
        """The pools this chain is configured with."""
        ...


@dataclass(frozen=True)
class CandleQuery:
    """The newest `limit` candles of a symbol. `base_url`: another address of the exchange's API."""

    exchange: str
    symbol: str
    interval: str
    limit: int
    base_url: str | None = None


class CandleSource(Protocol):
    async def candles(self, query: CandleQuery) -> list[list[float]]:
        """Rows of open time (Unix ms), open, high, low, close, volume; the newest last.

        An exchange ends with the candle still forming; a backtest knows closed ones only.
        """
        ...


@dataclass(frozen=True)
class SwapIntent:
    """Sell exactly `amount_in` base units of `token_in` through `vault` along `path`.

    `slippage_bps` is how much less than the quote at execution may be received, in hundredths of a percent. `router` is
    the one to trade through, None the chain's for this kind of path.
    """

    chain_id: int
    vault: str
    path: bytes
    token_in: str
    token_out: str
    amount_in: int
    slippage_bps: int
    router: str | None = None

    def router_on(self, chain: ChainSettings) -> str | None:
        """The router this trade goes through on its chain; None when it names none and the chain has none."""
        return self.router or chain.router_for(is_v2=decode_path(self.path).is_v2)


class TradeReceipt(BaseModel):
    """A mined trade. Amounts are base units; `price` is whole token out for one whole token in."""

    model_config = ConfigDict(frozen=True)

    trade_id: str
    chain_id: int
    vault: str
    token_in: str
    token_out: str
    amount_in: Amount
    amount_out: Amount
    price: Decimal
    transaction_hash: str
    block_number: int


class TradeGateway(Protocol):
    async def swap(self, intent: SwapIntent) -> TradeReceipt:
        """Trade, once per node and cycle however often it is called; returns when it is mined.

        Raises Refused(code, detail) when the vault's policy, the executor or the market said no.
        """
        ...

    async def resume(self) -> TradeReceipt | None:
        """The outcome of the trade already asked for in this cycle by an earlier run of this node, None without one.

        Ask before deciding anything: that trade may have spent the balance the decision rests on.
        """
        ...
