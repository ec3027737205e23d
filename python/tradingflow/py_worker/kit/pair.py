"""Buying and selling in terms of one pool: its base token against its quote token."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from pydantic import Field

from tradingflow.chain.swap_path import encode_path
from tradingflow.py_worker.kit.batch import BatchTape, Idle
from tradingflow.py_worker.kit.context import NodeContext
from tradingflow.py_worker.kit.fields import Address
from tradingflow.py_worker.kit.sizing import TradeInputs, TradeOutputs, TradeParams, sells_share_only, trade


class PairParams(TradeParams):
    pool: Address = Field(description="The pool to trade in; a Uniswap V3 pool or a V2 pair, which decides the route")
    base_token: Address | None = Field(
        default=None, description="The token bought or sold; default: the one that is not the chain's quote token"
    )


async def trade_pair(ctx: NodeContext, params: PairParams, inputs: TradeInputs, *, buy: bool) -> TradeOutputs:
    """Spend the quote token on the base token (`buy`), or the other way round."""
    pool = await ctx.markets.pool_price(params.chain_id, params.pool, params.base_token)
    base, quote = pool.base_token.address, pool.quote_token.address
    token_in, token_out = (quote, base) if buy else (base, quote)
    path = encode_path((token_in, token_out), () if pool.kind == "v2" else (pool.fee,))
    return await trade(ctx, params, inputs, path, token_in, token_out)


def idle_pair(tape: BatchTape, params: PairParams, connected: Collection[str], *, buy: bool) -> Idle | None:
    """Without a price a run fails instead, so those cycles are not idle."""
    prices = tape.pool_prices(params.chain_id, params.pool, params.base_token)
    if prices is None or not sells_share_only(params, connected):
        return None
    base, quote = tape.pool_tokens(params.pool, params.base_token)
    return Idle(quote if buy else base, ~np.isnan(prices))
