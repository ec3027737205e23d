from __future__ import annotations

from datetime import datetime

from pydantic import Field

from tradingflow.account_manager.fields import BaseUnitsText, DecimalField, EvmAddressText, ResponseModel


class HoldingResponse(ResponseModel):
    """What the vault's events brought in and is still there, and what it had cost (first in, first out)."""

    token: EvmAddressText
    amount: BaseUnitsText
    cost: DecimalField | None


class Gains(ResponseModel):
    """Amounts in whole quote tokens. A number that cannot be known is null, and `reasons` says why, by its name.

    `profit` = `withdrawn` + `left` - `deposited` = `realised` + `unrealised`; pool fees and slippage are in it. Gas is
    paid by the operator and not by the vault: `profit_after_gas` takes it off.
    """

    trades: int
    deposited: DecimalField | None
    withdrawn: DecimalField | None
    left: DecimalField | None = Field(description="What is left, at the newest prices")
    realised: DecimalField | None
    unrealised: DecimalField | None
    profit: DecimalField | None
    gas_wei: BaseUnitsText | None
    gas: DecimalField | None = Field(description="What gas cost, at the prices of its blocks")
    profit_after_gas: DecimalField | None
    reasons: dict[str, str]


class FlowGains(Gains):
    """What a flow sells without having bought it counts as `deposited` at that moment's worth."""

    flow_id: str | None = Field(description="The owner's name of the flow; null when it was deleted")
    onchain_flow_id: str


class PerformanceResponse(Gains):
    """How a vault fared, by its own events up to `block_number`.

    `time_weighted_return` and `max_drawdown` are ratios: 0.05 is five percent.
    Tokens that its owner never deposited, its policy never named and it never traded are left out, whoever sent them.
    """

    chain_id: int
    vault: EvmAddressText
    quote_token: EvmAddressText | None
    block_number: int | None
    as_of: datetime | None = Field(description="When the newest prices were taken")
    time_weighted_return: DecimalField | None
    max_drawdown: DecimalField | None
    holdings: list[HoldingResponse]
    flows: list[FlowGains]
