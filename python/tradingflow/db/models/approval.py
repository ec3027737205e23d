"""Questions flows put to their owners."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, CreatedAt, UuidPk, one_of

APPROVAL_STATUSES = ("pending", "approved", "rejected", "timed_out")
APPROVAL_TIMEOUT_ACTIONS = ("approve", "reject")


class Approval(Base):
    """One question of one node in one cycle; UNIQUE, so a node that runs again after a crash waits for the same answer.

    `timed_out` means nobody answered until `expires_at`, and `on_timeout` is the answer.
    """

    __tablename__ = "approvals"
    __table_args__ = (
        ForeignKeyConstraint(["flow_pk", "cycle"], ["cycles.flow_pk", "cycles.cycle"], ondelete="CASCADE"),
        UniqueConstraint("flow_pk", "cycle", "node_id"),
        CheckConstraint(one_of("status", APPROVAL_STATUSES), name="status"),
        CheckConstraint(one_of("on_timeout", APPROVAL_TIMEOUT_ACTIONS), name="on_timeout"),
        Index("ix_approvals_pending", "user_id", postgresql_where="status = 'pending'"),
        Index("ix_approvals_user_id_created_at_id", "user_id", "created_at", "id"),
    )

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    flow_pk: Mapped[UUID]
    cycle: Mapped[int]
    node_id: Mapped[str]
    question: Mapped[str]
    details: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    status: Mapped[str] = mapped_column(default="pending")
    on_timeout: Mapped[str]
    comment: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
