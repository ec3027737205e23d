"""How much a trade node sells, and along which route."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import Literal, Self

from pydantic import Field, model_validator

from tradingflow.core.errors import InvalidInput
from tradingflow.core.money import MAX_UINT256, PRECISION, may_fit, parse_base_units
from tradingflow.py_worker.kit.context import NodeContext
from tradingflow.py_worker.kit.fields import Address, ChainId, PositiveDecimal, SlippageBps
from tradingflow.py_worker.kit.handles import NOT_TAKEN, Json, NodeInputs, NodeOutputs, NodeParams
from tradingflow.py_worker.kit.markets import SwapIntent, TradeReceipt

Unit = Literal["human", "base_units", "percent"]

# Longer than the executor works at a trade (TRADE_TTL_S, 600 s, and what calling it off takes): a node that ended
# before would say `timeout` of a trade that may still be mined.
TRADE_TIMEOUT = timedelta(minutes=15)


class TradeParams(NodeParams):
    """What every trading node asks for."""

    chain_id: ChainId
    vault: Address = Field(description="The vault to trade through")
    amount: PositiveDecimal | None = Field(
        default=None, description="How much of the sold token; leave out when the `amount` handle brings it"
    )
    amount_unit: Unit = Field(
        default="human", description="`human`: whole tokens, `base_units`: smallest units, `percent` of the balance"
    )
    slippage_bps: SlippageBps = 50
    router: Address | None = Field(
        default=None,
        description="The swap router to trade through, which the vault must allow; default: the chain's for this route",
    )

    @model_validator(mode="after")
    def _amount_fits_unit(self) -> Self:
        if self.amount is not None:
            check_amount(self.amount, self.amount_unit)
        return self


class TradeInputs(NodeInputs):
    trigger: Json = Field(default=None, description="Anything; the trade is made when it arrives")
    amount: Decimal | None = Field(default=None, description="Overrides the parameter `amount`, in `amount_unit`")


class TradeOutputs(NodeOutputs):
    trade_receipt: TradeReceipt = Field(
        default=NOT_TAKEN, description="The mined trade; not taken when there was nothing to sell"
    )


def sells_share_only(params: TradeParams, connected: Collection[str]) -> bool:
    """Whether every run sells a share of the balance: then without a balance there is nothing to do."""
    return params.amount is not None and params.amount_unit == "percent" and "amount" not in connected


def check_amount(amount: Decimal, unit: Unit) -> None:
    """Raises ValueError for an amount its unit cannot mean."""
    if not amount.is_finite() or amount <= 0:
        raise ValueError("an amount is above zero")
    if unit == "percent" and amount > 100:
        raise ValueError("a percentage is at most 100")
    if unit == "base_units" and amount != amount.to_integral_value():
        raise ValueError("base units are whole numbers")
    if not may_fit(amount):
        raise ValueError("an amount is at most 2^256 - 1")


async def trade(
    ctx: NodeContext, params: TradeParams, inputs: TradeInputs, path: bytes, token_in: str, token_out: str
) -> TradeOutputs:
    """Make the trade of this cycle, or find the one an earlier run of this node made before a crash."""
    if (receipt := await ctx.trades.resume()) is not None:
        return TradeOutputs(trade_receipt=receipt)
    amount_in = await _size(ctx, params, inputs, token_in)
    if amount_in == 0:
        ctx.log.info("nothing to sell: the vault holds none of the token", token_in=token_in)
        return TradeOutputs()
    intent = SwapIntent(
        params.chain_id, params.vault, path, token_in, token_out, amount_in, params.slippage_bps, params.router
    )
    return TradeOutputs(trade_receipt=await ctx.trades.swap(intent))


async def _size(ctx: NodeContext, params: TradeParams, inputs: TradeInputs, token_in: str) -> int:
    amount = inputs.amount if inputs.amount is not None else params.amount
    if amount is None:
        raise InvalidInput("amount_missing", "set the parameter `amount` or connect the handle `amount`")
    try:
        check_amount(amount, params.amount_unit)
    except ValueError as error:
        raise InvalidInput("invalid_amount", str(error)) from error
    if params.amount_unit == "base_units":
        return parse_base_units(int(amount))
    if params.amount_unit == "percent":
        balances = await ctx.markets.balances(params.chain_id, params.vault, [token_in])
        return _share(balances[token_in], amount)
    token = await ctx.markets.token(params.chain_id, token_in)
    return _base_units(amount, token.decimals)


def _share(balance: int, percent: Decimal) -> int:
    with localcontext() as context:
        context.prec = PRECISION
        return int((balance * percent / 100).to_integral_value(ROUND_FLOOR))


def _base_units(amount: Decimal, decimals: int) -> int:
    """Whole tokens to base units; digits finer than the token has are cut, never rounded up."""
    scaled = 0
    if may_fit(amount, decimals):
        with localcontext() as context:
            context.prec = PRECISION
            scaled = int(amount.scaleb(decimals).to_integral_value(ROUND_FLOOR))
    if not 0 < scaled <= MAX_UINT256:
        raise InvalidInput("invalid_amount", f"{amount} is less than one base unit or more than a token can hold")
    return scaled
