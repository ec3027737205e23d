from __future__ import annotations

from datetime import datetime

from pydantic import Field

from tradingflow.account_manager.fields import BaseUnitsText, DecimalField, EvmAddressText, ResponseModel


class Position(ResponseModel):
    """What a vault holds of one token. `price` and `value` are in whole quote tokens; null with a `reason`."""

    token: EvmAddressText = Field(description="The zero address means the chain's native currency")
    symbol: str | None
    decimals: int | None
    balance: BaseUnitsText
    amount: DecimalField | None = Field(description="Whole tokens; null when the token does not tell its decimals")
    price: DecimalField | None
    value: DecimalField | None
    reason: str | None = Field(description="Why price or value cannot be known; null when they are")


class VaultPortfolio(ResponseModel):
    """`value` is null, with a `reason`, when any position above zero has no value: a partial sum would mislead.

    Positions are the tokens the owner deposited, the vault's policy named or it traded, and those of the chain's
    configured pools: anybody may deposit anything, and nobody's worthless token shall make the value unknown. Beyond
    200 tokens without a configured pool the others are left out, and `value` is null (`too_many_tokens`).
    """

    chain_id: int
    vault: EvmAddressText
    block_number: int
    as_of: datetime
    quote_token: EvmAddressText | None
    quote_symbol: str | None
    positions: list[Position]
    value: DecimalField | None
    reason: str | None


class ChainTotal(ResponseModel):
    """The sum over a chain's vaults; chains have different quote tokens, so there is no sum over chains."""

    chain_id: int
    quote_token: EvmAddressText | None
    quote_symbol: str | None
    value: DecimalField | None
    reason: str | None


class PortfolioResponse(ResponseModel):
    vaults: list[VaultPortfolio]
    totals: list[ChainTotal]


class ValuePoint(ResponseModel):
    """What a vault was worth at a moment; null with the reason when that could not be known."""

    chain_id: int
    vault: EvmAddressText
    as_of: datetime
    block_number: int
    quote_token: EvmAddressText | None
    value: DecimalField | None
    reason: str | None
