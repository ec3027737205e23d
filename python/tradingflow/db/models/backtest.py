"""Backtests asked for over REST: a queue the workers share, with what went in and what came out."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, Index, Uuid
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, BigPk, CreatedAt, one_of

BACKTEST_STATUSES = ("queued", "running", "completed", "failed", "cancelled")


class BacktestJob(Base):
    """One backtest of one user.

    A worker that runs it holds it until `leased_until` and renews that; once it has passed, any worker may begin the
    next `attempt`. What an attempt writes counts only while it is still the row's attempt. `request` is the flow's
    JSON, the spec and the names of the series; `figures` are the result's, once it is there.
    """

    __tablename__ = "backtests"
    __table_args__ = (
        CheckConstraint(one_of("status", BACKTEST_STATUSES), name="status"),
        Index("ix_backtests_user_id_number", "user_id", "number"),
        Index("ix_backtests_open", "number", postgresql_where="status IN ('queued', 'running')"),
    )

    number: Mapped[BigPk]
    id: Mapped[UUID] = mapped_column(Uuid(), unique=True, default=uuid4)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    flow_id: Mapped[str | None]
    version: Mapped[int | None]
    request: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(default="queued")
    attempt: Mapped[int] = mapped_column(default=0)
    leased_until: Mapped[datetime | None]
    cycles_done: Mapped[int] = mapped_column(default=0)
    cycles_total: Mapped[int]
    figures: Mapped[dict[str, Any] | None]
    failure_code: Mapped[str | None]
    failure_detail: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class BacktestFile(Base):
    """Candles that went in (`0.csv`, `1.csv` …) and files that came out, compressed with zlib."""

    __tablename__ = "backtest_files"

    number: Mapped[int] = mapped_column(ForeignKey("backtests.number", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[bytes]
