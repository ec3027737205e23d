"""Vaults, and the long job of deploying one."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, CreatedAt, UpdatedAt, UuidPk, one_of
from tradingflow.db.types import EvmAddress, Hash32

DEPLOYMENT_STATUSES = ("queued", "signed", "broadcast", "mined", "verified", "failed")


class Vault(Base):
    """A vault whose code and owner were verified on chain.

    `prices_wanted_at` is since when somebody waits for prices at the blocks of its events; NULL: nobody does.
    """

    __tablename__ = "vaults"
    __table_args__ = (
        UniqueConstraint("chain_id", "address"),
        Index("ix_vaults_prices_wanted", "prices_wanted_at", postgresql_where="prices_wanted_at IS NOT NULL"),
    )

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    chain_id: Mapped[int]
    address: Mapped[str] = mapped_column(EvmAddress)
    owner_address: Mapped[str] = mapped_column(EvmAddress)
    factory: Mapped[str] = mapped_column(EvmAddress)
    created_block: Mapped[int]
    created_at: Mapped[CreatedAt]
    prices_wanted_at: Mapped[datetime | None]


class VaultDeployment(Base):
    """One request to deploy; (user, request key) makes a repeated request the same deployment."""

    __tablename__ = "vault_deployments"
    __table_args__ = (
        UniqueConstraint("user_id", "request_key"),
        CheckConstraint(one_of("status", DEPLOYMENT_STATUSES), name="status"),
        Index("ix_vault_deployments_ended", "updated_at", postgresql_where="status IN ('verified', 'failed')"),
        Index("ix_vault_deployments_open", "created_at", postgresql_where="status NOT IN ('verified', 'failed')"),
    )

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    request_key: Mapped[str]
    chain_id: Mapped[int]
    owner_address: Mapped[str] = mapped_column(EvmAddress)
    salt: Mapped[str] = mapped_column(Hash32)
    predicted_address: Mapped[str] = mapped_column(EvmAddress)
    status: Mapped[str]
    transaction_hash: Mapped[str | None] = mapped_column(Hash32)
    failure_code: Mapped[str | None]
    failure_detail: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
