"""What the Monitor keeps equal to the canonical chain: blocks, events, monitored contracts, cursors."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Integer, LargeBinary, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, CreatedAt, UuidPk
from tradingflow.db.types import EvmAddress, Hash32


class ChainCursor(Base):
    """How far one chain is stored.

    `next_block` is the first block not yet stored, `next_final_block` the first not yet announced as final.
    `halted_reason` set means an operator must look. `generation` counts the changes of what is followed that the
    cursor does not show: contracts taken up or discovered, blocks taken back. Who read for the one before reads again.
    """

    __tablename__ = "chain_cursors"

    chain_id: Mapped[int] = mapped_column(primary_key=True)
    next_block: Mapped[int]
    next_final_block: Mapped[int]
    halted_reason: Mapped[str | None]
    generation: Mapped[int] = mapped_column(default=0, server_default="0")
    updated_at: Mapped[datetime]


class ChainBlock(Base):
    """A block that holds stored events, or that a reorg may still replace (the last `finality_blocks`)."""

    __tablename__ = "chain_blocks"

    chain_id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[str] = mapped_column(Hash32)
    parent_hash: Mapped[str] = mapped_column(Hash32)
    timestamp: Mapped[datetime]


class MonitoredContract(Base):
    """A contract whose events are stored from `from_block` on. `kind` names its ABI in the registry.

    The follower stores its events from `live_from` on (NULL: it has not yet taken the contract up); those of the
    blocks before are read apart, `history_next` being the first that is missing. `discovered_by` is its factory.
    `is_proxy` is NULL until somebody looked where EIP-1967 proxies keep their implementation.
    """

    __tablename__ = "monitored_contracts"

    chain_id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(EvmAddress, primary_key=True)
    kind: Mapped[str]
    from_block: Mapped[int]
    discovered_by: Mapped[str | None] = mapped_column(EvmAddress)
    live_from: Mapped[int | None]
    history_next: Mapped[int | None]
    is_proxy: Mapped[bool | None]


class ContractImplementation(Base):
    """From this place in the chain on, the proxy `address` runs the code at `implementation` (EIP-1967).

    `log_index` is -1 for what its slot held before the block, else that of its `Upgraded`. The ABI of an
    implementation is that of the monitored contract of its address.
    """

    __tablename__ = "contract_implementations"

    chain_id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(EvmAddress, primary_key=True)
    block_number: Mapped[int] = mapped_column(primary_key=True)
    log_index: Mapped[int] = mapped_column(Integer, primary_key=True)
    implementation: Mapped[str] = mapped_column(EvmAddress)


class ContractEvent(Base):
    """One log. `name` and `args` are NULL when it could not be decoded, and `undecoded_reason` says why.

    Big integers in `args` are decimal strings; `topics` and `data` keep the log as the chain had it.
    """

    __tablename__ = "contract_events"
    __table_args__ = (
        Index("ix_contract_events_chain_id_address_block_number", "chain_id", "address", "block_number"),
        Index(
            "ix_contract_events_undecoded",
            "chain_id",
            "block_number",
            "log_index",
            postgresql_where=text("name IS NULL"),
        ),
    )

    chain_id: Mapped[int] = mapped_column(primary_key=True)
    block_number: Mapped[int] = mapped_column(primary_key=True)
    log_index: Mapped[int] = mapped_column(Integer, primary_key=True)
    block_hash: Mapped[str] = mapped_column(Hash32)
    transaction_hash: Mapped[str] = mapped_column(Hash32)
    address: Mapped[str] = mapped_column(EvmAddress)
    kind: Mapped[str]
    name: Mapped[str | None]
    args: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    undecoded_reason: Mapped[str | None]
    topics: Mapped[list[bytes]] = mapped_column(ARRAY(LargeBinary))
    data: Mapped[bytes]
    block_time: Mapped[datetime]


class ContractAbi(Base):
    """The ABI of a kind of contract that is not built in: `entries` is its JSON ABI, `user_id` whoever added it."""

    __tablename__ = "contract_abis"

    kind: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    entries: Mapped[list[Any]]
    created_at: Mapped[CreatedAt]


class UserContract(Base):
    """A contract that a user asked to have monitored. `kind` names the ABI this user reads its events by, which need
    not be the one they were stored with."""

    __tablename__ = "user_contracts"
    __table_args__ = (UniqueConstraint("user_id", "chain_id", "address"),)

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    chain_id: Mapped[int]
    address: Mapped[str] = mapped_column(EvmAddress)
    kind: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[CreatedAt]


class FactoryRule(Base):
    """The event `event` of contracts of kind `factory_kind` holds in `argument` the address of a new contract, which is
    followed from that block on as `child_kind`."""

    __tablename__ = "factory_rules"

    factory_kind: Mapped[str] = mapped_column(primary_key=True)
    event: Mapped[str] = mapped_column(primary_key=True)
    argument: Mapped[str]
    child_kind: Mapped[str]
