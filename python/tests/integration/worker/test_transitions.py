"""Every transition of a node task's and a cycle's status: the open ones happen, what has ended stays as it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.core.tasks import running
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Cycle, Flow, FlowVersion, NodeTask
from tradingflow.db.models.flow import CYCLE_STATUSES, NODE_TASK_STATUSES
from tradingflow.py_worker.control import terminate_open_cycles, terminate_tasks
from tradingflow.py_worker.engine.cycle import Outcome
from tradingflow.py_worker.runtime.loader import CycleLoader
from tradingflow.py_worker.runtime.records import CycleRecord, RunningRecord, StoredCycle, TaskRecord
from tradingflow.py_worker.runtime.store import CycleStore

NOW = datetime(2026, 6, 1, tzinfo=UTC)
OPEN_TASK = (None, "pending", "running")
TASK_ENDINGS: tuple[Any, ...] = ("completed", "failed", "skipped", "terminated")
CYCLE_ENDINGS: tuple[Any, ...] = ("completed", "failed", "terminated")


class Row:
    """One cycle with one node `n`, in any state."""

    def __init__(self, sessions: SessionFactory, flow_pk: UUID) -> None:
        self.key = (flow_pk, 0)
        self._sessions = sessions

    async def put(self, cycle: str, task: str | None) -> None:
        async with self._sessions.begin() as session:
            session.add(Cycle(flow_pk=self.key[0], cycle=0, version=1, fire_time=NOW, status=cycle))
            await session.flush()
            if task is not None:
                session.add(NodeTask(flow_pk=self.key[0], cycle=0, node_id="n", status=task))

    async def task(self) -> str | None:
        async with self._sessions() as session:
            return await session.scalar(select(NodeTask.status))

    async def cycle(self) -> str | None:
        async with self._sessions() as session:
            return await session.scalar(select(Cycle.status))


@pytest.fixture
async def row(sessions: SessionFactory, add_user: Callable[[], Any]) -> Row:
    user, flow_pk = await add_user(), uuid4()
    async with sessions.begin() as session:
        session.add(Flow(id=flow_pk, user_id=user, flow_id="f", status="running", current_version=1))
        await session.flush()
        session.add(FlowVersion(flow_pk=flow_pk, version=1, graph={"nodes": [{"id": "n", "type": "emit"}]}))
    return Row(sessions, flow_pk)


@pytest.fixture
async def store(engine: AsyncEngine) -> AsyncIterator[CycleStore]:
    store = CycleStore(engine, "w")
    yield store
    await store.close()


def ending(row: Row, status: Any) -> TaskRecord:
    outcome = Outcome(status, started_at=NOW, finished_at=datetime.now(UTC))
    return TaskRecord(row.key, "n", outcome, "{}", lambda _: None)


@pytest.mark.parametrize("to", TASK_ENDINGS)
@pytest.mark.parametrize("from_", [None, *NODE_TASK_STATUSES])
async def test_a_worker_ends_a_node_task_once(row: Row, store: CycleStore, from_: str | None, to: str) -> None:
    await row.put("running", from_)
    (applied,) = await store.commit([ending(row, to)])
    assert (applied, await row.task()) == ((True, to) if from_ in OPEN_TASK else (False, from_))


@pytest.mark.parametrize("from_", [None, *NODE_TASK_STATUSES])
async def test_a_worker_shows_a_node_task_as_running_only_before_its_end(
    row: Row, store: CycleStore, from_: str | None
) -> None:
    await row.put("running", from_)
    await store.commit([RunningRecord(row.key, "n", 1, NOW)])
    assert await row.task() == ("running" if from_ in OPEN_TASK else from_)


@pytest.mark.parametrize("from_", [None, *NODE_TASK_STATUSES])
async def test_stop_terminates_what_has_not_ended(row: Row, sessions: SessionFactory, from_: str | None) -> None:
    await row.put("running", from_)
    async with sessions.begin() as session:
        await terminate_tasks(session, row.key[0], [0], "stopped", NOW)
    assert await row.task() == ("terminated" if from_ in OPEN_TASK else from_)


@pytest.mark.parametrize("cycle", [status for status in CYCLE_STATUSES if status != "running"])
@pytest.mark.parametrize("to", TASK_ENDINGS)
async def test_nothing_ends_in_a_cycle_that_has_ended(row: Row, store: CycleStore, cycle: str, to: str) -> None:
    await row.put(cycle, None)
    assert await store.commit([ending(row, to)]) == [False]
    await store.commit([RunningRecord(row.key, "n", 1, NOW)])
    assert (await row.task(), await row.cycle()) == (None, cycle)


@pytest.mark.parametrize("to", CYCLE_ENDINGS)
@pytest.mark.parametrize("from_", CYCLE_STATUSES)
async def test_a_worker_ends_a_cycle_once(row: Row, store: CycleStore, from_: str, to: Any) -> None:
    await row.put(from_, "completed")
    (applied,) = await store.commit([CycleRecord(row.key, to, 1, lambda _: None)])
    assert (applied, await row.cycle()) == ((True, to) if from_ == "running" else (False, from_))


@pytest.mark.parametrize("to", CYCLE_ENDINGS)
async def test_a_cycle_with_a_terminated_task_ends_as_terminated(row: Row, store: CycleStore, to: Any) -> None:
    """Whatever a worker thinks that has not heard of it."""
    await row.put("running", "terminated")
    assert await store.commit([CycleRecord(row.key, to, 1, lambda _: None)]) == [True]
    assert await row.cycle() == "terminated"


async def test_a_cycle_that_changes_while_it_is_loaded_is_loaded_again(
    row: Row, store: CycleStore, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the reading of the rows and the building of the graph a stop is told to nobody yet."""
    await row.put("running", None)
    loader = CycleLoader(store, {})
    graph_json = store.graph_json
    told: asyncio.Queue[StoredCycle | None] = asyncio.Queue()

    async def stopped_meanwhile(flow_pk: UUID, version: int) -> Any:
        monkeypatch.setattr(store, "graph_json", graph_json)
        async with sessions.begin() as session:
            await terminate_tasks(session, flow_pk, [0], "stopped", NOW)
        loader.changed(flow_pk)
        return await graph_json(flow_pk, version)

    monkeypatch.setattr(store, "graph_json", stopped_meanwhile)
    loader.request(row.key)
    async with running(loader.run(lambda _, stored, __: told.put_nowait(stored))), asyncio.timeout(30):
        stored = await told.get()
    assert stored is not None
    assert stored.outcomes["n"].status == "terminated"
    assert told.empty()


async def test_a_cycle_wanted_again_after_a_lost_session_is_told_as_it_is_then(
    row: Row, store: CycleStore, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two, another worker went on with it."""
    await row.put("running", None)
    loader = CycleLoader(store, {})
    graph_json = store.graph_json
    told: asyncio.Queue[StoredCycle | None] = asyncio.Queue()

    async def lost_meanwhile(flow_pk: UUID, version: int) -> Any:
        monkeypatch.setattr(store, "graph_json", graph_json)
        async with sessions.begin() as session:
            session.add(NodeTask(flow_pk=flow_pk, cycle=0, node_id="n", status="completed"))
        loader.reset()
        loader.request(row.key)
        return await graph_json(flow_pk, version)

    monkeypatch.setattr(store, "graph_json", lost_meanwhile)
    loader.request(row.key)
    async with running(loader.run(lambda _, stored, __: told.put_nowait(stored))), asyncio.timeout(30):
        stored = await told.get()
    assert stored is not None
    assert stored.outcomes["n"].status == "completed"
    assert told.empty()


@pytest.mark.parametrize("task", [None, "pending", "running"])
@pytest.mark.parametrize("to", CYCLE_ENDINGS)
async def test_a_cycle_does_not_end_before_its_node_tasks(
    row: Row, store: CycleStore, task: str | None, to: Any
) -> None:
    await row.put("running", task)
    assert await store.commit([CycleRecord(row.key, to, 1, lambda _: None)]) == [False]
    assert await row.cycle() == "running"


@pytest.mark.parametrize("from_", CYCLE_STATUSES)
async def test_stop_terminates_an_open_cycle_with_its_tasks(row: Row, sessions: SessionFactory, from_: str) -> None:
    await row.put(from_, None)
    async with sessions.begin() as session:
        ended = await terminate_open_cycles(session, row.key[0], "stopped", NOW)
    assert (ended, await row.cycle(), await row.task()) == (
        ([0], "terminated", "terminated") if from_ == "running" else ([], from_, None)
    )
