"""Buy the base token of a pool through a vault."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from tradingflow.py_worker.kit import Node, NodeContext
from tradingflow.py_worker.kit.batch import BatchTape, Idle
from tradingflow.py_worker.kit.pair import PairParams, idle_pair, trade_pair
from tradingflow.py_worker.kit.sizing import TRADE_TIMEOUT, TradeInputs, TradeOutputs


class BuyNode(Node[PairParams, TradeInputs, TradeOutputs]):
    type = "buy_node"
    title = "Buy"
    description = "Spends an amount of a pool's quote token on its base token, through a vault."
    category = "trading"
    default_timeout = TRADE_TIMEOUT
    example: ClassVar[dict[str, Any]] = {
        "chain_id": 1,
        "vault": "0x00000000000000000000000000000000000000aa",
        "pool": "0x88e6A0c2dDD26FEEb64F039a2c41296FcB3f5640",
        "amount": "10",
        "amount_unit": "percent",
    }

    async def run(self, ctx: NodeContext, params: PairParams, inputs: TradeInputs) -> TradeOutputs:
        return await trade_pair(ctx, params, inputs, buy=True)

    def idle(self, tape: BatchTape, params: PairParams, connected: Collection[str]) -> Idle | None:
        return idle_pair(tape, params, connected, buy=True)
