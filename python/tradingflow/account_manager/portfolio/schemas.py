from __future__ import annotations

from datetime import datetime

from pydantic import Field

from tradingflow.account_manager.fields import BaseUnitsField, DecimalField, EvmAddressField, ResponseModel


class Position(ResponseModel):
    """What a vault holds of one token. `price` and `value` are in whole quote tokens; null with a `reason`."""

    token: EvmAddressField = Field(description="The zero address means the chain's native currency")
    symbol: str | None
    decimals: int | None
    balance: BaseUnitsField
    amount: DecimalField | None = Field(description="Whole tokens; null when the token does not tell its decimals")
    price: DecimalField | None
    value: DecimalField | None
    reason: str | None = Field(description="Why price or value cannot be known; null when they are")


class VaultPortfolio(ResponseModel):
    """`value` is null, with a `reason`, when any position above zero has no value: a partial sum would mislead."""

    chain_id: int
    vault: EvmAddressField
    block_number: int
    as_of: datetime
    quote_token: EvmAddressField | None
    quote_symbol: str | None
    positions: list[Position]
    value: DecimalField | None
    reason: str | None


class ChainTotal(ResponseModel):
    """The sum over a chain's vaults; chains have different quote tokens, so there is no sum over chains."""

    chain_id: int
    quote_token: EvmAddressField | None
    quote_symbol: str | None
    value: DecimalField | None
    reason: str | None


class PortfolioResponse(ResponseModel):
    vaults: list[VaultPortfolio]
    totals: list[ChainTotal]
