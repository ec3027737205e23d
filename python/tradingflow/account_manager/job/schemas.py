from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from tradingflow.account_manager.fields import ResponseModel

JobStatus = Literal["waiting", "running", "succeeded", "failed", "overdue"]


class JobResponse(ResponseModel):
    """`overdue`: three periods have passed without a run.

    Beat or every worker is away, or a slow job holds up the others that wait for somebody else's server.
    """

    name: str
    purpose: str
    every_s: float
    status: JobStatus
    last_started_at: datetime | None
    last_finished_at: datetime | None
    last_duration_ms: int | None
    last_error: str | None
    next_run_at: datetime | None = Field(description="When beat starts it next; null before its first run")
    runs: int
    failures: int
