"""Trades (intents), transactions (attempts to get one mined), and the signers that send them."""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Date, ForeignKey, Index, Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, BigPk, CreatedAt, UpdatedAt, one_of
from tradingflow.db.types import BaseUnits, EvmAddress, Hash32

TRADE_STATUSES = ("requested", "submitted", "completed", "failed")
TRANSACTION_STATUSES = ("prepared", "broadcast", "dropped", "mined", "reverted", "replaced")
PURPOSES = ("trade", "vault_deployment", "nonce_filler")


class Trade(Base):
    """One intent to swap `amount_in` base units of `token_in` through a vault.

    `id` is the trade id the vault burns. A settled trade is `completed` (mined, `amount_out` from the event)
    or `failed` with `failure_code` and `failure_detail`; `finalized_at` says when no reorg could undo that any more.
    A `submitted` trade with a `failure_code` is being called off: it fails so unless it is mined first.
    `settled_at` is when the flow was told, and stays when a reorg reopens the trade. `retried_at` is when an operator
    last asked for another try: the trade's time begins anew then, and an end of its node before it does not count.
    The unique index on trades in flight makes a vault's trades go out one at a time, so that each is simulated
    against balances and caps no trade of ours is about to change.
    """

    __tablename__ = "trades"
    __table_args__ = (
        CheckConstraint(one_of("status", TRADE_STATUSES), name="status"),
        CheckConstraint("amount_in > 0", name="amount_in_positive"),
        Index("ix_trades_user_id_created_at", "user_id", "created_at"),
        Index("ix_trades_settled_at", "settled_at", postgresql_where="settled_at IS NOT NULL"),
        Index("ix_trades_unsettled", "created_at", postgresql_where="finalized_at IS NULL"),
        Index(
            "uq_trades_in_flight",
            "chain_id",
            "vault_address",
            unique=True,
            postgresql_where="status = 'submitted' AND settled_at IS NULL",
        ),
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
    block_hash: Mapped[str | None] = mapped_column(Hash32)
    failure_code: Mapped[str | None]
    failure_detail: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
    retried_at: Mapped[datetime | None]
    submitted_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]
    finalized_at: Mapped[datetime | None]


class VaultSpend(Base):
    """What we have signed for on a UTC day: base units of one token sold by one vault. Never above the vault's cap."""

    __tablename__ = "vault_spend"

    chain_id: Mapped[int] = mapped_column(primary_key=True)
    vault_address: Mapped[str] = mapped_column(EvmAddress, primary_key=True)
    token: Mapped[str] = mapped_column(EvmAddress, primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    spent: Mapped[int] = mapped_column(BaseUnits)


class Signer(Base):
    """The next nonce of one operator key on one chain; nonces are taken under this row's lock.

    NULL until the chain was asked for the first one. The executor writes a row for each key it holds when it starts;
    the row of a key that it no longer holds stays, for its transactions, and is `retired_at` that time.
    """

    __tablename__ = "signers"

    chain_id: Mapped[int] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(EvmAddress, primary_key=True)
    next_nonce: Mapped[int | None]
    retired_at: Mapped[datetime | None]


class Transaction(Base):
    """One signed attempt, stored before it is broadcast. The attempts that share a nonce form a slot.

    `purpose_id` is the trade id or the deployment id. The unique index on first attempts allows a purpose one slot
    that may still be mined, or was; a slot whose purpose was served otherwise becomes a `nonce_filler`. `gives_up`
    marks an attempt that only takes the nonce, moving nothing.
    `missing_since` is when the chain began to count the nonce as used without showing one of ours.
    """

    __tablename__ = "transactions"
    __table_args__ = (
        UniqueConstraint("chain_id", "signer", "nonce", "attempt"),
        CheckConstraint(one_of("status", TRANSACTION_STATUSES), name="status"),
        CheckConstraint(one_of("purpose", PURPOSES), name="purpose"),
        Index("ix_transactions_purpose_purpose_id", "purpose", "purpose_id"),
        Index(
            "ix_transactions_unmined",
            "chain_id",
            "signer",
            "nonce",
            postgresql_where="status IN ('prepared', 'broadcast', 'dropped')",
        ),
        Index(
            "uq_transactions_live_slot",
            "purpose",
            "purpose_id",
            unique=True,
            postgresql_where="attempt = 1 AND purpose <> 'nonce_filler'"
            " AND status IN ('prepared', 'broadcast', 'dropped', 'mined')",
        ),
    )

    id: Mapped[BigPk]
    chain_id: Mapped[int]
    signer: Mapped[str] = mapped_column(EvmAddress)
    nonce: Mapped[int]
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    purpose: Mapped[str]
    purpose_id: Mapped[str]
    gives_up: Mapped[bool] = mapped_column(default=False)
    hash: Mapped[str] = mapped_column(Hash32, unique=True)
    raw: Mapped[bytes]
    gas_limit: Mapped[int]
    max_fee_per_gas: Mapped[int] = mapped_column(BaseUnits)
    max_priority_fee_per_gas: Mapped[int] = mapped_column(BaseUnits)
    expires_at: Mapped[datetime | None]
    status: Mapped[str]
    broadcast_at: Mapped[datetime | None]
    missing_since: Mapped[datetime | None]
    block_number: Mapped[int | None]
    block_hash: Mapped[str | None] = mapped_column(Hash32)
    gas_used: Mapped[int | None]
    effective_gas_price: Mapped[int | None] = mapped_column(BaseUnits)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
