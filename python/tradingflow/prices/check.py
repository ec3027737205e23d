"""No trade on a price that nobody else confirms.

The vault's minimum out holds a trade to the quote it set out with; this holds the quote itself to what several sources
agree on, so that a pool somebody has just moved is not traded against.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal, localcontext
from typing import Protocol

from tradingflow.chain.client import ChainClient
from tradingflow.chain.swap_path import FEE_DENOMINATOR, V2_FEE, SwapPath, decode_path
from tradingflow.chain.uniswap import UniswapReader
from tradingflow.core.clock import Clock
from tradingflow.core.errors import Refused
from tradingflow.core.evm import parse_address
from tradingflow.core.money import PRECISION
from tradingflow.db.engine import SessionFactory
from tradingflow.prices.agreement import MAX_SPREAD
from tradingflow.prices.book import PriceBook


class Swap(Protocol):
    """What of a trade is held to prices; `amount_in` in base units."""

    @property
    def chain_id(self) -> int: ...
    @property
    def token_in(self) -> str: ...
    @property
    def token_out(self) -> str: ...
    @property
    def amount_in(self) -> int: ...
    @property
    def path(self) -> bytes: ...


class PriceCheck:
    """Holds quotes to the agreed prices."""

    def __init__(self, chains: Mapping[int, ChainClient], sessions: SessionFactory, clock: Clock) -> None:
        self._prices = PriceBook(chains, sessions, clock)
        self._readers = {chain_id: UniswapReader(client) for chain_id, client in chains.items()}

    async def check(self, trade: Swap, quoted: int) -> None:
        """`quoted` is in base units of the token bought.

        Raises Refused: `price_…` when a token has no price to trust (`price_stale`, `price_sources_differ`,
        `price_too_few_sources`, `price_no_quote_token`), `price_disagreement` when the quote is off the agreed prices.
        """
        token_in, token_out = parse_address(trade.token_in), parse_address(trade.token_out)
        reader = self._readers[trade.chain_id]
        price_in, price_out, decimals_in, decimals_out = await asyncio.gather(
            self._prices.require(trade.chain_id, token_in),
            self._prices.require(trade.chain_id, token_out),
            reader.decimals(token_in),
            reader.decimals(token_out),
        )
        with localcontext() as context:
            context.prec = PRECISION
            rate = price_in / price_out * Decimal(10) ** (decimals_out - decimals_in)
            fair = trade.amount_in * rate * share_after_fees(decode_path(trade.path))
            off = abs(quoted - fair) / fair
        if off > MAX_SPREAD:
            raise Refused(
                "price_disagreement",
                f"the pools quote {quoted}, the agreed prices make it {fair:.0f}: {off:.1%} apart, "
                f"allowed: {MAX_SPREAD:.0%}",
            )


def share_after_fees(path: SwapPath) -> Decimal:
    """What the pools of a path leave of the value that goes in, their depth aside."""
    fees = path.fees or (V2_FEE,) * (len(path.tokens) - 1)
    share = Decimal(1)
    for fee in fees:
        share *= 1 - Decimal(fee) / FEE_DENOMINATOR
    return share
