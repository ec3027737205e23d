"""Deterministic identities: the same work has the same id whoever does it and however often."""

from __future__ import annotations

import hashlib
from uuid import UUID

from tradingflow.core.evm import keccak

_TRADE_DOMAIN = b"tradingflow.trade.v1"
_FLOW_DOMAIN = b"tradingflow.flow.v1"


def node_task_id(flow_id: str, cycle: int, node_id: str) -> str:
    """`{flow_id}_{cycle}_{node_id}`, the id existing clients know."""
    return f"{flow_id}_{cycle}_{node_id}"


def trade_id(flow_pk: UUID, version: int, cycle: int, node_id: str) -> str:
    """The id the vault burns: keccak of flow, version, cycle and node, never of the attempt.

    Each part has a fixed width or a length in front, so two different inputs cannot share a preimage.
    """
    node = node_id.encode()
    preimage = _TRADE_DOMAIN + flow_pk.bytes + version.to_bytes(8) + cycle.to_bytes(8) + len(node).to_bytes(4) + node
    return "0x" + keccak(preimage).hex()


def onchain_flow_id(flow_pk: UUID) -> str:
    """The 32-byte flow id that `TradeExecuted` carries."""
    return "0x" + keccak(_FLOW_DOMAIN + flow_pk.bytes).hex()


def cycle_partition(flow_pk: UUID, cycle: int, partitions: int) -> int:
    """The partition queue that carries every message of one cycle. Stable across processes and releases."""
    digest = hashlib.blake2b(flow_pk.bytes + cycle.to_bytes(8), digest_size=8).digest()
    return int.from_bytes(digest) % partitions
