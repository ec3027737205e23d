"""Beside live trading: paper vaults and their trades, the journal of cycles, and how paper differed from live.

Nothing here is ever joined with `trades`: what was traded on paper is never mistaken for what was traded.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, BigPk, CreatedAt, UpdatedAt, UuidPk, one_of
from tradingflow.db.types import BaseUnits, EvmAddress, Hash32

PAPER_TRADE_STATUSES = ("completed", "failed")
DIVERGENCE_KINDS = ("decision", "refusal", "fill")


class PaperVault(Base):
    """A vault that exists for its owner's paper flows only, under the address those flows name.

    `balances` maps tokens to base units; `policy` and `ledger` are the owner's settings and the counters of the
    contract. Its row lock is what makes paper trades of a vault happen one after the other.
    """

    __tablename__ = "paper_vaults"
    __table_args__ = (UniqueConstraint("user_id", "chain_id", "address"),)

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    chain_id: Mapped[int]
    address: Mapped[str] = mapped_column(EvmAddress)
    policy: Mapped[dict[str, Any]]
    ledger: Mapped[dict[str, Any]]
    balances: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class PaperTrade(Base):
    """One trade on paper: `completed` with its fill, or `failed` with the code the vault would have reverted with.

    `trade_id` is what the same node in the same cycle would burn live. `spent` is below `amount_in` where the pools
    could not take all of it. `is_shadow`: traded beside the live trade of that id, to compare them.
    """

    __tablename__ = "paper_trades"
    __table_args__ = (
        CheckConstraint(one_of("status", PAPER_TRADE_STATUSES), name="status"),
        Index("ix_paper_trades_user_id_number", "user_id", "number"),
    )

    number: Mapped[BigPk]
    trade_id: Mapped[str] = mapped_column(Hash32, unique=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    flow_pk: Mapped[UUID] = mapped_column(ForeignKey("flows.id", ondelete="CASCADE"), index=True)
    version: Mapped[int] = mapped_column(Integer)
    cycle: Mapped[int]
    node_id: Mapped[str]
    is_shadow: Mapped[bool] = mapped_column(default=False)
    chain_id: Mapped[int]
    vault_address: Mapped[str] = mapped_column(EvmAddress)
    path: Mapped[bytes]
    token_in: Mapped[str] = mapped_column(EvmAddress)
    token_out: Mapped[str] = mapped_column(EvmAddress)
    amount_in: Mapped[int] = mapped_column(BaseUnits)
    slippage_bps: Mapped[int] = mapped_column(Integer)
    status: Mapped[str]
    min_amount_out: Mapped[int | None] = mapped_column(BaseUnits)
    spent: Mapped[int | None] = mapped_column(BaseUnits)
    amount_out: Mapped[int | None] = mapped_column(BaseUnits)
    block_number: Mapped[int]
    failure_code: Mapped[str | None]
    failure_detail: Mapped[str | None]
    created_at: Mapped[datetime]


class JournalEntry(Base):
    """What one node task took in from outside, in the order it asked. Written with the task's ending."""

    __tablename__ = "cycle_journal"
    __table_args__ = (
        ForeignKeyConstraint(
            ["flow_pk", "cycle", "node_id"],
            ["node_tasks.flow_pk", "node_tasks.cycle", "node_tasks.node_id"],
            ondelete="CASCADE",
        ),
    )

    flow_pk: Mapped[UUID] = mapped_column(primary_key=True)
    cycle: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[str] = mapped_column(primary_key=True)
    entries: Mapped[list[Any]]
    is_cut: Mapped[bool] = mapped_column(default=False)
    """More came in than is kept, so the task cannot be replayed as it was."""


class ShadowDivergence(Base):
    """Where a live cycle and its shadow on paper went apart further than the flow's bound."""

    __tablename__ = "shadow_divergences"
    __table_args__ = (
        UniqueConstraint("flow_pk", "cycle", "node_id", "kind"),
        CheckConstraint(one_of("kind", DIVERGENCE_KINDS), name="kind"),
        Index("ix_shadow_divergences_flow_pk_id", "flow_pk", "id"),
    )

    id: Mapped[BigPk]
    flow_pk: Mapped[UUID] = mapped_column(ForeignKey("flows.id", ondelete="CASCADE"))
    cycle: Mapped[int]
    node_id: Mapped[str]
    kind: Mapped[str]
    live: Mapped[dict[str, Any]]
    paper: Mapped[dict[str, Any]]
    deviation_bps: Mapped[int | None]
    bound_bps: Mapped[int]
    created_at: Mapped[CreatedAt]
