"""Which schedules are due: what the Python Worker claims, and what an operator is told of when it is late."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, not_, or_

from tradingflow.core.schedule import ONCE
from tradingflow.db.models import Cycle, Flow, Schedule


def is_due(now: datetime | ColumnElement[Any]) -> ColumnElement[bool]:
    """Of schedules: the time has come, the flow runs, and nothing is there to wait for.

    Left out are those that wait for their open cycle: by `overlap` queue, because a misfire makes up for `all`, or
    because a flow that runs once has no next time.
    """
    runs = exists().where(Flow.id == Schedule.flow_pk, Flow.status == "running")
    is_open = exists().where(Cycle.flow_pk == Schedule.flow_pk, Cycle.status == "running")
    waiting_once = and_(Schedule.cycle_interval == ONCE, Schedule.overlap != "replace")
    must_wait = and_(is_open, or_(Schedule.overlap == "queue", Schedule.misfire == "all", waiting_once))
    return and_(Schedule.next_fire_at <= now, runs, not_(must_wait))
