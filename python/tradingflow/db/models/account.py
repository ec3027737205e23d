"""Who owns things: users, the wallets they signed in with, their sessions."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, UniqueConstraint
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
    """One sign-in, kept alive by its refresh tokens until `expires_at`; `revoked_at` ends it for good."""

    __tablename__ = "auth_sessions"

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    wallet_address: Mapped[str] = mapped_column(EvmAddress)
    client: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    last_used_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    revoked_at: Mapped[datetime | None]


class RefreshToken(Base):
    """SHA-256 of a refresh token. Used ones stay until the session ends: one that comes back was stolen."""

    __tablename__ = "refresh_tokens"

    hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("auth_sessions.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[CreatedAt]
    used_at: Mapped[datetime | None]
