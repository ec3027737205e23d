"""On-chain price of a pool, averaged if wanted, and a quote for an amount."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tradingflow.chain.swap_path import encode_path
from tradingflow.core.errors import InvalidInput
from tradingflow.core.money import may_fit, parse_base_units
from tradingflow.py_worker.kit import (
    NOT_TAKEN,
    Amount,
    BatchRun,
    Column,
    Json,
    Node,
    NodeContext,
    NodeInputs,
    NodeOutputs,
    NodeParams,
)
from tradingflow.py_worker.kit.fields import Address, ChainId, PositiveDecimal
from tradingflow.py_worker.kit.markets import PoolPrice, price_of


class Params(NodeParams):
    chain_id: ChainId
    pool: Address = Field(description="A Uniswap V3 pool or V2 pair")
    base_token: Address | None = Field(
        default=None, description="The token whose price you want; default: the one that is not the chain's quote token"
    )
    quote_amount: PositiveDecimal | None = Field(
        default=None, description="Whole base tokens to ask a quote for; without it there is no quote"
    )
    twap_s: int | None = Field(
        default=None, ge=1, le=86_400, description="Average the price over this many seconds (V3); default: spot"
    )


class Inputs(NodeInputs):
    trigger: Json = Field(default=None, description="Anything; the price is read when it arrives")


class QuoteOut(BaseModel):
    model_config = ConfigDict(frozen=True)

    token_in: str
    token_out: str
    amount_in: Amount
    amount_out: Amount
    price: Decimal


class Outputs(NodeOutputs):
    price: Decimal = Field(description="Whole quote tokens for one whole base token, pool fee not taken")
    quote: QuoteOut = Field(
        default=NOT_TAKEN, description="What selling `quote_amount` would bring, fee and impact taken; base units"
    )


class DexPriceNode(Node[Params, Inputs, Outputs]):
    type = "dex_price_node"
    title = "DEX price"
    description = "Reads the price of a Uniswap pool from the chain, and quotes an amount."
    category = "market data"
    example: ClassVar[dict[str, Any]] = {
        "chain_id": 1,
        "pool": "0x88e6A0c2dDD26FEEb64F039a2c41296FcB3f5640",
        "base_token": "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
        "quote_amount": "1",
    }

    async def run(self, ctx: NodeContext, params: Params, inputs: Inputs) -> Outputs:
        if params.twap_s:
            price = await ctx.markets.pool_twap(params.chain_id, params.pool, params.twap_s, params.base_token)
        else:
            price = await ctx.markets.pool_price(params.chain_id, params.pool, params.base_token)
        if params.quote_amount is None:
            return Outputs(price=price.price)
        return Outputs(price=price.price, quote=await _quote(ctx, price, params.quote_amount))

    def batch(self, run: BatchRun, params: Params) -> Mapping[str, Column] | None:
        if params.twap_s or params.quote_amount is not None:
            return None
        prices = run.tape.pool_prices(params.chain_id, params.pool, params.base_token)
        if prices is None or np.isnan(prices[run.ran]).any():
            return None
        return {"price": Column(run.ran, lambda cycle: str(price_of(prices[cycle])), prices)}


async def _quote(ctx: NodeContext, price: PoolPrice, amount: Decimal) -> QuoteOut:
    tokens = (price.base_token.address, price.quote_token.address)
    path = encode_path(tokens, () if price.kind == "v2" else (price.fee,))
    decimals = price.base_token.decimals
    if not may_fit(amount, decimals):
        raise InvalidInput("invalid_amount", f"{amount} is more than a token can hold")
    amount_in = parse_base_units(int(amount.scaleb(decimals)))
    if amount_in == 0:
        raise InvalidInput("invalid_amount", f"{amount} is less than one base unit of the token")
    # A V2 pair itself says of which exchange it is.
    quote = await ctx.markets.quote(price.chain_id, path, amount_in, router=price.pool if price.kind == "v2" else None)
    return QuoteOut(
        token_in=tokens[0], token_out=tokens[1], amount_in=amount_in, amount_out=quote.amount_out, price=quote.price
    )
