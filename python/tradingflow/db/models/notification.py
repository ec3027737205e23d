"""Whom to tell what has happened, and every attempt to do so."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, CreatedAt, UpdatedAt, UuidPk, one_of
from tradingflow.db.types import EvmAddress

CHANNEL_KINDS = ("webhook", "telegram", "email")
CHANNEL_STATUSES = ("unconfirmed", "active", "paused")
DELIVERY_STATUSES = ("pending", "delivered", "failed")
CERTAINTIES = ("instant", "final")


class NotificationChannel(Base):
    """Where notices of one user go: a URL, a Telegram chat or an e-mail address.

    `topics` are what it is told of; NULL leaves that to the user's preferences. `sealed` under `key_id` is a
    webhook's signing secret (see core.sealing). Until it is confirmed with the code sent there, whose hash is
    `code_hash`, a chat or an address is sent nothing else. `failing_since` is when deliveries began to fail.
    """

    __tablename__ = "notification_channels"
    __table_args__ = (
        UniqueConstraint("user_id", "kind", "target"),
        CheckConstraint(one_of("kind", CHANNEL_KINDS), name="kind"),
        CheckConstraint(one_of("status", CHANNEL_STATUSES), name="status"),
    )

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[str]
    target: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    topics: Mapped[list[str] | None] = mapped_column(ARRAY(String))
    key_id: Mapped[str | None]
    sealed: Mapped[bytes | None]
    status: Mapped[str]
    code_hash: Mapped[bytes | None]
    code_expires_at: Mapped[datetime | None]
    code_tries: Mapped[int] = mapped_column(Integer, default=0)
    paused_reason: Mapped[str | None]
    failing_since: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]


class EventSubscription(Base):
    """Contract events a channel is told of: all of a contract, or those of one name.

    `next_block` is the first block whose events may still be missing. `certainty` says whether a notice goes out as
    soon as the event is stored, to be taken back should a reorg undo it, or once no reorg can.
    """

    __tablename__ = "event_subscriptions"
    __table_args__ = (
        UniqueConstraint("channel_id", "chain_id", "address", "name", postgresql_nulls_not_distinct=True),
        CheckConstraint(one_of("certainty", CERTAINTIES), name="certainty"),
        Index("ix_event_subscriptions_chain_id_address", "chain_id", "address"),
    )

    id: Mapped[UuidPk]
    channel_id: Mapped[UUID] = mapped_column(ForeignKey("notification_channels.id", ondelete="CASCADE"))
    chain_id: Mapped[int]
    address: Mapped[str] = mapped_column(EvmAddress)
    name: Mapped[str | None]
    certainty: Mapped[str]
    next_block: Mapped[int]


class NotificationDelivery(Base):
    """One notice for one channel. `key` names what happened: a channel is told of it once.

    `block_number` is set while a reorg may take the event back, and `reverted_at` once one did: the same event may
    then come again. `due_at` is when it is tried next, NULL once it is over.
    """

    __tablename__ = "notification_deliveries"
    __table_args__ = (
        CheckConstraint(one_of("status", DELIVERY_STATUSES), name="status"),
        Index(
            "uq_notification_deliveries_key",
            "channel_id",
            "key",
            unique=True,
            postgresql_where="reverted_at IS NULL",
        ),
        Index("ix_notification_deliveries_due", "due_at", postgresql_where="due_at IS NOT NULL"),
        Index("ix_notification_deliveries_channel_id_created_at", "channel_id", "created_at"),
        Index(
            "ix_notification_deliveries_open_blocks",
            "channel_id",
            "block_number",
            postgresql_where="block_number IS NOT NULL",
        ),
    )

    id: Mapped[UuidPk]
    channel_id: Mapped[UUID] = mapped_column(ForeignKey("notification_channels.id", ondelete="CASCADE"))
    key: Mapped[str]
    topic: Mapped[str]
    payload: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(default="pending")
    tries: Mapped[int] = mapped_column(Integer, default=0)
    due_at: Mapped[datetime | None]
    last_tried_at: Mapped[datetime | None]
    last_answer: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    delivered_at: Mapped[datetime | None]
    chain_id: Mapped[int | None]
    block_number: Mapped[int | None]
    reverted_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class NotificationCursor(Base):
    """How far one source was looked at: up to a moment, or up to a block."""

    __tablename__ = "notification_cursors"

    source: Mapped[str] = mapped_column(primary_key=True)
    seen_until: Mapped[datetime | None]
    next_block: Mapped[int | None]
