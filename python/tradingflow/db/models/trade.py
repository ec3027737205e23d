"""Trades (intents) and transactions (attempts to get one mined)."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, BigPk, CreatedAt, UpdatedAt, one_of
from tradingflow.db.types import BaseUnits, EvmAddress, Hash32

TRADE_STATUSES = ("requested", "submitted", "completed", "failed")
TRANSACTION_STATUSES = ("prepared", "broadcast", "mined", "reverted", "replaced", "dropped")


class Trade(Base):
    """One intent to swap `amount_in` base units of `token_in` through a vault.

    `id` is the trade id the vault burns. A settled trade is `completed` (mined, `amount_out` from the event)
    or `failed` with `failure_code` and `failure_detail`.
    """

    __tablename__ = "trades"
    __table_args__ = (
        CheckConstraint(one_of("status", TRADE_STATUSES), name="status"),
        CheckConstraint("amount_in > 0", name="amount_in_positive"),
        Index("ix_trades_user_id_created_at", "user_id", "created_at"),
        Index("ix_trades_open", "created_at", postgresql_where="status IN ('requested', 'submitted')"),
    )

    id: Mapped[str] = mapped_column(Hash32, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    flow_pk: Mapped[UUID] = mapped_column(ForeignKey("flows.id", ondelete="CASCADE"), index=True)
    version: Mapped[int] = mapped_column(Integer)
    cycle: Mapped[int]
    node_id: Mapped[str]
    chain_id: Mapped[int]
    vault_address: Mapped[str] = mapped_column(EvmAddress, index=True)
    router: Mapped[str] = mapped_column(EvmAddress)
    path: Mapped[bytes]
    token_in: Mapped[str] = mapped_column(EvmAddress)
    token_out: Mapped[str] = mapped_column(EvmAddress)
    amount_in: Mapped[int] = mapped_column(BaseUnits)
    slippage_bps: Mapped[int] = mapped_column(Integer)
    status: Mapped[str]
    min_amount_out: Mapped[int | None] = mapped_column(BaseUnits)
    amount_out: Mapped[int | None] = mapped_column(BaseUnits)
    transaction_hash: Mapped[str | None] = mapped_column(Hash32)
    block_number: Mapped[int | None]
    failure_code: Mapped[str | None]
    failure_detail: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
    settled_at: Mapped[datetime | None]


class Signer(Base):
    """The next nonce of one operator key on one chain; nonces are taken under this row's lock."""

    __tablename__ = "signers"

    chain_id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(EvmAddress, primary_key=True)
    next_nonce: Mapped[int]


class Transaction(Base):
    """One signed attempt, stored before it is broadcast. Attempts for the same purpose share a nonce.

    `purpose` is `trade` or `vault_deployment`, `purpose_id` the trade id or deployment id.
    """

    __tablename__ = "transactions"
    __table_args__ = (
        UniqueConstraint("chain_id", "signer", "nonce", "attempt"),
        CheckConstraint(one_of("status", TRANSACTION_STATUSES), name="status"),
        Index("ix_transactions_purpose_purpose_id", "purpose", "purpose_id"),
    )

    id: Mapped[BigPk]
    chain_id: Mapped[int]
    signer: Mapped[str] = mapped_column(EvmAddress)
    nonce: Mapped[int]
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    purpose: Mapped[str]
    purpose_id: Mapped[str]
    hash: Mapped[str] = mapped_column(Hash32, unique=True)
    raw: Mapped[bytes]
    max_fee_per_gas: Mapped[int] = mapped_column(BaseUnits)
    max_priority_fee_per_gas: Mapped[int] = mapped_column(BaseUnits)
    status: Mapped[str]
    block_number: Mapped[int | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
