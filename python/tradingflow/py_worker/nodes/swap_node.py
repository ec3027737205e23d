"""Swap one token for another through a vault."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tradingflow.chain.swap_path import V2_FEE, SwapPath, encode_path
from tradingflow.py_worker.kit import Node, NodeContext
from tradingflow.py_worker.kit.fields import Address, PoolFee
from tradingflow.py_worker.kit.sizing import TRADE_TIMEOUT, TradeInputs, TradeOutputs, TradeParams, trade


class Params(TradeParams):
    token_in: Address = Field(description="The token to sell")
    token_out: Address = Field(description="The token to buy")
    route: Literal["v3", "v2"] = Field(
        default="v3", description="`v3`: pools of Uniswap V3, `v2`: pairs of a V2-style exchange"
    )
    fee: PoolFee = V2_FEE
    via: tuple[tuple[PoolFee, Address], ...] = Field(
        default=(),
        max_length=4,
        description="Hops before the last pool, as [fee, token] each; `fee` is the last pool's. V2 pairs take 3000",
    )

    @model_validator(mode="after")
    def _tokens_differ(self) -> Self:
        if self.token_in == self.token_out:
            raise ValueError("token_in and token_out are the same")
        return self

    @model_validator(mode="after")
    def _v2_pairs_have_one_fee(self) -> Self:
        if self.route == "v2" and any(fee != V2_FEE for fee in self._fees()):
            raise ValueError(f"with the route v2 every fee is {V2_FEE}, in `fee` and in `via`: V2 pairs have no other")
        return self

    def path(self) -> SwapPath:
        tokens = (self.token_in, *(token for _, token in self.via), self.token_out)
        return SwapPath(tokens, () if self.route == "v2" else self._fees())

    def _fees(self) -> tuple[int, ...]:
        return (*(fee for fee, _ in self.via), self.fee)


class SwapNode(Node[Params, TradeInputs, TradeOutputs]):
    type = "swap_node"
    title = "Swap"
    description = "Sells an exact amount of one token for another through a vault; slippage is measured from a quote."
    category = "trading"
    default_timeout = TRADE_TIMEOUT
    example: ClassVar[dict[str, Any]] = {
        "chain_id": 1,
        "vault": "0x00000000000000000000000000000000000000aa",
        "token_in": "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        "token_out": "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2",
        "fee": 500,
        "amount": "100",
        "slippage_bps": 50,
    }

    async def run(self, ctx: NodeContext, params: Params, inputs: TradeInputs) -> TradeOutputs:
        path = params.path()
        return await trade(ctx, params, inputs, encode_path(path.tokens, path.fees), params.token_in, params.token_out)
