from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from tradingflow.account_manager.contract.abi import MAX_EVENTS
from tradingflow.account_manager.fields import (
    BlockNumber,
    ChainId,
    EvmAddressField,
    EvmAddressText,
    RequestModel,
    ResponseModel,
)
from tradingflow.chain.decoder import MAX_NAME_CHARS
from tradingflow.chain.registry import UsersKind


class ContractRequest(RequestModel):
    """Exactly one of `abi` and `kind` says how the contract's events are read."""

    chain_id: ChainId
    address: EvmAddressField
    name: str = Field(default="", max_length=64, pattern=r"^[\w .:@()-]*$", description="What you call it")
    abi: list[dict[str, Any]] | None = Field(
        default=None,
        description=f"JSON ABI with 1 to {MAX_EVENTS} events, names of at most {MAX_NAME_CHARS} characters; "
        "the rest is ignored",
    )
    kind: UsersKind | None = Field(default=None, description="A built-in ABI instead")
    from_block: BlockNumber | None = Field(
        default=None, description="First block of interest, within your plan's history; without it: from now on"
    )


class ContractResponse(ResponseModel):
    """`status` is `queued` until the Monitor takes the contract up, `backfilling` while blocks before `live_from` are
    read (`history_next` is the first that is missing), then `live`.

    `kind` is the ABI your queries decode by, `stored_kind` the one the Monitor stores by: what a factory
    or the configuration says of the contract, else the first anybody gave.
    """

    id: UUID
    chain_id: int
    address: EvmAddressText
    name: str
    kind: str
    stored_kind: str
    events: list[str] = Field(description="Signatures of the events of `kind`")
    status: Literal["queued", "backfilling", "live"]
    from_block: int | None
    live_from: int | None
    history_next: int | None
    created_at: datetime
