"""Who owns things: users, their wallets, sessions, API keys, preferences and secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, CreatedAt, UpdatedAt, UuidPk
from tradingflow.db.types import EvmAddress

STANDARD_PLAN = "standard"


class Plan(Base):
    """How much one account may have of what costs us: rows are an operator's to change and to add.

    `history_blocks` is how far back before the head the past of a user's contract is read.
    """

    __tablename__ = "plans"

    name: Mapped[str] = mapped_column(primary_key=True)
    api_keys: Mapped[int] = mapped_column(Integer)
    credentials: Mapped[int] = mapped_column(Integer)
    wallets: Mapped[int] = mapped_column(Integer)
    contracts: Mapped[int] = mapped_column(Integer)
    history_blocks: Mapped[int]
    channels: Mapped[int] = mapped_column(Integer)
    event_subscriptions: Mapped[int] = mapped_column(Integer)
    notices_per_day: Mapped[int] = mapped_column(Integer)


class User(Base):
    __tablename__ = "users"

    id: Mapped[UuidPk]
    plan: Mapped[str] = mapped_column(ForeignKey("plans.name"), server_default=STANDARD_PLAN)
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


class ApiKey(Base):
    """A key for programs: SHA-256 of the key, what it may do, and until when. The key itself is shown once."""

    __tablename__ = "api_keys"
    __table_args__ = (
        Index("uq_api_keys_living_name", "user_id", "name", unique=True, postgresql_where="revoked_at IS NULL"),
    )

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    wallet_address: Mapped[str] = mapped_column(EvmAddress)
    name: Mapped[str]
    hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class UserPreferences(Base):
    """What a user changed from the defaults, written under `schema_version` of the preferences' schema."""

    __tablename__ = "user_preferences"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    schema_version: Mapped[int] = mapped_column(Integer)
    values: Mapped[dict[str, Any]]
    updated_at: Mapped[UpdatedAt]


class Credential(Base):
    """A secret for nodes: AES-256-GCM under the key `key_id`, bound to this row's id and owner (see core.sealing)."""

    __tablename__ = "credentials"
    __table_args__ = (UniqueConstraint("user_id", "name"),)

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    key_id: Mapped[str]
    sealed: Mapped[bytes]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
