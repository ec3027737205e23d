from __future__ import annotations

from datetime import datetime
from typing import Any

from tradingflow.account_manager.fields import EvmAddressText, Hash32Text, ResponseModel


class EventResponse(ResponseModel):
    """One log. `name` and `args` are null when it could not be decoded, and `undecoded_reason` says why.

    Integers above 53 bits in `args` are strings; `topics` and `data` are the log as the chain has it.
    """

    chain_id: int
    block_number: int
    block_hash: Hash32Text
    log_index: int
    transaction_hash: Hash32Text
    address: EvmAddressText
    kind: str
    name: str | None
    args: dict[str, Any] | None
    undecoded_reason: str | None
    topics: list[str]
    data: str
    block_time: datetime
