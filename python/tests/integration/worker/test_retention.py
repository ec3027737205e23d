"""Old history goes by age and by count; what traded, what runs and what nodes remember stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from tradingflow.core.clock import SimulatedClock
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import (
    Cycle,
    Flow,
    FlowLog,
    FlowVersion,
    NodeStateEntry,
    NodeTask,
    Schedule,
    Trade,
    TriggerEvent,
)
from tradingflow.py_worker.retention import HistoryLimits, Retention

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CYCLES = 6
TRADED, OPEN = 1, 2


@pytest.fixture
async def flow(sessions: SessionFactory, add_user: Callable[[], Any]) -> UUID:
    """Cycle n ended 60 - 10 n days ago; one traded, one is still open."""
    user, flow_pk = await add_user(), uuid4()
    async with sessions.begin() as session:
        session.add(Flow(id=flow_pk, user_id=user, flow_id="f", status="running", current_version=1))
        await session.flush()
        session.add(FlowVersion(flow_pk=flow_pk, version=1, graph={"nodes": [{"id": "n"}]}))
        session.add(Schedule(flow_pk=flow_pk, cycle_interval="0", next_cycle=CYCLES))
        session.add(NodeStateEntry(flow_pk=flow_pk, node_id="n", key="k", value=1, cycle=0))
        await session.flush()
        for number in range(CYCLES):
            await _add_cycle(session, flow_pk, number)
        session.add(_trade(user, flow_pk))
    return flow_pk


async def _add_cycle(session: Any, flow_pk: UUID, number: int) -> None:
    at = NOW - (60 - 10 * number) * DAY
    status, ended = ("running", None) if number == OPEN else ("completed", at)
    session.add(
        Cycle(flow_pk=flow_pk, cycle=number, version=1, fire_time=at, status=status, started_at=at, finished_at=ended)
    )
    await session.flush()
    session.add(NodeTask(flow_pk=flow_pk, cycle=number, node_id="n", status="completed"))
    session.add(FlowLog(flow_pk=flow_pk, cycle=number, node_id="n", log_level="INFO", log_source="node", message="m"))


def _trade(user: UUID, flow_pk: UUID) -> Trade:
    address = "0x" + "11" * 20
    return Trade(
        id="0x" + "01" * 32,
        user_id=user,
        flow_pk=flow_pk,
        version=1,
        cycle=TRADED,
        node_id="n",
        chain_id=1,
        vault_address=address,
        router=address,
        path=b"",
        token_in=address,
        token_out=address,
        amount_in=1,
        slippage_bps=50,
        status="completed",
    )


async def kept(sessions: SessionFactory, limits: HistoryLimits) -> list[int]:
    await Retention(sessions, SimulatedClock(NOW), limits).sweep()
    async with sessions() as session:
        cycles = list(await session.scalars(select(Cycle.cycle).order_by(Cycle.cycle)))
        assert list(await session.scalars(select(NodeTask.cycle).order_by(NodeTask.cycle))) == cycles
        assert list(await session.scalars(select(FlowLog.cycle).order_by(FlowLog.cycle))) == cycles
        assert await session.scalar(select(NodeStateEntry.value)) == 1
        assert len(list(await session.scalars(select(Trade.id)))) == 1
    return cycles


@pytest.mark.usefixtures("flow")
@pytest.mark.parametrize(
    ("limits", "left"),
    [
        (HistoryLimits(None, None), [0, 1, 2, 3, 4, 5]),
        (HistoryLimits(25 * DAY, None), [1, 2, 4, 5]),
        (HistoryLimits(None, 3), [1, 2, 3, 4, 5]),
        (HistoryLimits(25 * DAY, None, traded_too=True), [2, 4, 5]),
        (HistoryLimits(DAY, 1), [1, 2, 5]),
    ],
)
async def test_what_is_over_a_limit_goes(sessions: SessionFactory, limits: HistoryLimits, left: list[int]) -> None:
    assert await kept(sessions, limits) == left


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        (HistoryLimits(None, None), ["started", "old", "new", "waits"]),
        (HistoryLimits(25 * DAY, None), ["new", "waits"]),
        (HistoryLimits(None, 3), ["new", "waits"]),
        (HistoryLimits(None, 5), ["old", "new", "waits"]),
    ],
)
async def test_trigger_events_go_with_the_cycles_of_their_time_and_those_that_wait_stay(
    sessions: SessionFactory, flow: UUID, limits: HistoryLimits, left: list[str]
) -> None:
    """Whether they started a cycle or were skipped. Cycle 1 began 50 days ago, cycle 3 began 30 days ago."""
    async with sessions.begin() as session:
        for name, days, status, cycle in (
            ("started", 60, "started", 0),
            ("old", 40, "skipped", None),
            ("new", 20, "skipped", None),
            ("waits", 60, "pending", None),
        ):
            at = NOW - days * DAY
            session.add(
                TriggerEvent(flow_pk=flow, kind="webhook", dedupe_key=name, status=status, cycle=cycle, received_at=at)
            )
            await session.flush()
    await kept(sessions, limits)
    async with sessions() as session:
        assert list(await session.scalars(select(TriggerEvent.dedupe_key).order_by(TriggerEvent.id))) == left
