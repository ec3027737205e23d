"""Who owns things: users and the wallets they signed in with."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, CreatedAt, UuidPk
from tradingflow.db.types import EvmAddress


class User(Base):
    __tablename__ = "users"

    id: Mapped[UuidPk]
    created_at: Mapped[CreatedAt]


class Wallet(Base):
    """One wallet belongs to one account at most."""

    __tablename__ = "wallets"
    __table_args__ = (UniqueConstraint("address"),)

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    address: Mapped[str] = mapped_column(EvmAddress)
    created_at: Mapped[CreatedAt]


class AuthSession(Base):
    """One sign-in. Its refresh token is stored only as a SHA-256; a rotated-away hash that comes back revokes it."""

    __tablename__ = "auth_sessions"
    __table_args__ = (Index("ix_auth_sessions_user_id", "user_id"),)

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    wallet_address: Mapped[str] = mapped_column(EvmAddress)
    refresh_hash: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
