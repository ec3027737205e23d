from __future__ import annotations

from datetime import datetime

from pydantic import Field

from tradingflow.account_manager.fields import BaseUnitsText, DecimalField, EvmAddressText, Hash32Text, ResponseModel


class TradeResponse(ResponseModel):
    """One intent to swap, and how it ended. Amounts are base units of their token."""

    id: Hash32Text
    flow_id: str
    version: int
    cycle: int
    node_id: str
    chain_id: int
    vault_address: EvmAddressText
    router: EvmAddressText
    token_in: EvmAddressText
    token_out: EvmAddressText
    token_in_symbol: str | None
    token_out_symbol: str | None
    amount_in: BaseUnitsText
    min_amount_out: BaseUnitsText | None
    amount_out: BaseUnitsText | None
    slippage_bps: int
    status: str
    price: DecimalField | None = Field(
        description="Whole token_out received for one whole token_in; null until mined, or where decimals are unknown"
    )
    transaction_hash: Hash32Text | None
    block_number: int | None
    failure_code: str | None
    failure_detail: str | None
    created_at: datetime
    settled_at: datetime | None
