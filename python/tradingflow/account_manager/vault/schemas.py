from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from tradingflow.account_manager.fields import (
    MAX_SAFE_INTEGER,
    BaseUnitsField,
    BaseUnitsText,
    ChainId,
    EvmAddressField,
    EvmAddressText,
    Hash32Text,
    Moment,
    RequestModel,
    ResponseModel,
)
from tradingflow.chain.vault_policy import LONGEST_LOSS_WINDOW_S, SHORTEST_LOSS_WINDOW_S
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.core.money import MAX_UINT256

MAX_COOLDOWN_S = 2**24 - 1


class CreateVaultRequest(RequestModel):
    """`request_key` makes a repeated request the same deployment; `owner_address` is one of the caller's wallets."""

    chain_id: ChainId
    owner_address: EvmAddressField | None = Field(default=None, description="Default: the signed-in wallet")
    request_key: str | None = Field(default=None, min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")


class EstimateRequest(RequestModel):
    chain_id: ChainId
    owner_address: EvmAddressField | None = Field(default=None, description="Default: the signed-in wallet")


class EstimateResponse(ResponseModel):
    """What creating a vault takes now. Whoever sends the transaction pays: with `/create`, that is the operator."""

    gas: BaseUnitsText = Field(description="Gas units")
    max_fee_per_gas: BaseUnitsText = Field(description="Wei: the coming base fee with headroom, and a tip")
    max_cost: BaseUnitsText = Field(description="Wei: the two multiplied")


class DeploymentResponse(ResponseModel):
    """A deployment's progress: queued, signed, broadcast, mined, verified, or failed with its reason."""

    task_id: UUID = Field(validation_alias="id")
    request_key: str
    chain_id: int
    owner_address: EvmAddressText
    predicted_address: EvmAddressText
    status: Literal["queued", "signed", "broadcast", "mined", "verified", "failed"]
    transaction_hash: Hash32Text | None
    failure_code: str | None
    failure_detail: str | None
    created_at: datetime
    updated_at: datetime


class AcceptedDeployment(DeploymentResponse):
    gas_estimate: BaseUnitsText | None = Field(default=None, description="Gas units the deployment will use")


class OperatorResponse(ResponseModel):
    """The address to allow as operator in a vault's policy."""

    chain_id: int
    operator: EvmAddressText


class TokenRules(ResponseModel):
    """What the operator may sell of a token; 2^256 - 1 means no cap."""

    token: EvmAddressText
    allowed: bool
    per_trade_cap: BaseUnitsText
    per_day_cap: BaseUnitsText
    spent_today: BaseUnitsText


class RouterRule(ResponseModel):
    router: EvmAddressText
    kind: int


class LossRule(ResponseModel):
    """What trades may lose in any `window_s` by `price_source`, in its unit; `loss_in_window` counts against it now."""

    price_source: EvmAddressText
    cap: BaseUnitsText
    window_s: int
    loss_in_window: BaseUnitsText


class VaultResponse(ResponseModel):
    """A vault's settings as of `block_number`; of more than 200 tokens or routers, those with the lowest addresses."""

    chain_id: int
    address: EvmAddressText
    owner_address: EvmAddressText
    factory: EvmAddressText
    created_block: int
    block_number: int
    operator: EvmAddressText | None
    operator_expires_at: datetime | None
    paused: bool
    cooldown_s: int
    last_trade_at: datetime | None
    tokens: list[TokenRules]
    tokens_left_out: int = Field(description="How many more the vault's events name")
    routers: list[RouterRule]
    routers_left_out: int = Field(description="How many more the vault's events name")
    loss_cap: LossRule | None = Field(description="null when nothing caps what trades may lose")


class VaultSummary(ResponseModel):
    chain_id: int
    address: EvmAddressText
    owner_address: EvmAddressText
    factory: EvmAddressText
    created_block: int
    created_at: datetime


class DepositRequest(RequestModel):
    token: EvmAddressField
    amount: BaseUnitsField


class WithdrawRequest(RequestModel):
    """`amount` null withdraws the whole balance; `to` is the owner when left out."""

    token: EvmAddressField = Field(description="The zero address means the chain's native currency")
    amount: BaseUnitsField | None = None
    to: EvmAddressField | None = None


class OperatorRequest(RequestModel):
    operator: EvmAddressField | None = Field(default=None, description="Default: our operator on this chain")
    expires_at: Annotated[Moment, Field(description="When the operator's power ends by itself")]


class TokenPolicyRequest(RequestModel):
    token: EvmAddressField
    allowed: bool = True
    per_trade_cap: BaseUnitsField = MAX_UINT256
    per_day_cap: BaseUnitsField = MAX_UINT256


class RouterRequest(RequestModel):
    """`kind`: 1 Uniswap V3 SwapRouter, 2 Uniswap V2 style, 3 Uniswap SwapRouter02, 0 forbids it."""

    router: EvmAddressField
    kind: int = Field(ge=0, le=3)


class LossCapRequest(RequestModel):
    """Caps what trades may lose, added up, in any `window_s`. The zero address as `price_source`, alone, lifts the cap.

    Each time it is set, with the same figures too, the losses counted so far are forgotten.
    """

    price_source: EvmAddressField | None = Field(
        default=None, description="A contract that values every token the vault allows. Default: the chain's"
    )
    cap: BaseUnitsField | None = Field(
        default=None, description="In the unit of the price source: base units of its quote token, or 18 decimals"
    )
    window_s: int | None = Field(default=None, ge=SHORTEST_LOSS_WINDOW_S, le=LONGEST_LOSS_WINDOW_S)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = (self.cap, self.window_s)
        if self.price_source == ZERO_ADDRESS:
            if given != (None, None):
                raise ValueError("the zero address lifts the cap: leave `cap` and `window_s` out, or name a source")
        elif None in given:
            raise ValueError("a loss cap needs `cap` and `window_s`; the zero address as `price_source` lifts it")
        elif self.cap == 0:
            raise ValueError("a `cap` of 0 would refuse nearly every trade: pause the vault, or allow a loss above 0")
        return self


class PolicyRequest(RequestModel):
    """Every part is optional; what is left out stays as it is. What is given goes into one transaction, all or none."""

    operator: OperatorRequest | None = None
    routers: tuple[RouterRequest, ...] | None = Field(
        default=None, max_length=20, description="Default, when an operator is set: the chain's router as kind 1"
    )
    tokens: tuple[TokenPolicyRequest, ...] = Field(default=(), max_length=50)
    cooldown_s: int | None = Field(default=None, ge=0, le=MAX_COOLDOWN_S)
    loss_cap: LossCapRequest | None = None


class UnsignedTransaction(ResponseModel):
    """For the owner's own wallet to sign and send. `value` is in wei."""

    to: EvmAddressText
    data: str = Field(pattern="^0x[0-9a-f]*$")
    value: BaseUnitsText
    chain_id: int
    gas: BaseUnitsText
    description: str


class TransactionsResponse(ResponseModel):
    """Send them in this order, each after the one before was mined."""

    transactions: list[UnsignedTransaction]


class OperationResponse(ResponseModel):
    """One thing that happened to the vault, as its contract said."""

    name: str | None
    args: dict[str, Any] | None
    transaction_hash: Hash32Text
    block_number: int = Field(le=MAX_SAFE_INTEGER)
    log_index: int
    block_time: datetime
