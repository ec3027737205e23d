"""What the background jobs last did."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base


class JobRun(Base):
    """The last run of one job of beat. `finished_at` and `duration_ms` are NULL while it runs, and after it died.

    `runs` counts since the row was made; `error` is why the last run failed.
    """

    __tablename__ = "job_runs"

    name: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    duration_ms: Mapped[int | None]
    error: Mapped[str | None]
    runs: Mapped[int] = mapped_column(default=1)
    failures: Mapped[int] = mapped_column(default=0)
