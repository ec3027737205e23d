"""What a crash may leave behind, put together by hand: the worker must end every cycle as if nothing had happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.worker.conftest import StartWorker, until
from tests.integration.worker.nodes import edge, node
from tradingflow.core.clock import SystemClock
from tradingflow.core.config import WorkerSettings
from tradingflow.core.ids import cycle_partition
from tradingflow.core.tasks import running
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Cycle, Flow, FlowVersion, NodeTask, Schedule
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.messages import CycleStarted, Message, Signals, encode
from tradingflow.messaging.topology import CYCLES, partition_queue
from tradingflow.py_worker.engine.cycle import Outcome
from tradingflow.py_worker.runtime.committer import NOT_STORABLE, Committer
from tradingflow.py_worker.runtime.conductor import Conductor
from tradingflow.py_worker.runtime.connection import StatementRefused
from tradingflow.py_worker.runtime.records import CycleKey, CycleRecord, LogLine, TaskRecord
from tradingflow.py_worker.runtime.store import CycleStore
from tradingflow.py_worker.runtime.sweep import Sweep

CHAIN = {
    "nodes": [node("a", "emit", {"value": 1}), node("b", "add", {"value": 10}), node("c", "add", {"value": 100})],
    "edges": [edge("a", "b"), edge("b", "c")],
}


class Scene:
    """An open cycle in the database, and messages about it."""

    def __init__(self, settings: WorkerSettings, sessions: SessionFactory, flow_pk: UUID) -> None:
        self.settings = settings
        self.sessions = sessions
        self.flow_pk = flow_pk

    async def send(self, *messages: Message) -> None:
        partitions = self.settings.cycle_partitions
        queue = partition_queue(cycle_partition(self.flow_pk, 0, partitions))
        async with Broker(self.settings.rabbitmq_dsn, name="test", partitions=partitions) as broker:
            for message in messages:
                await broker.publish(CYCLES, queue, encode(message), message_id=uuid4().hex)

    async def store(self, node_id: str, outputs: dict[str, Any]) -> None:
        async with self.sessions.begin() as session:
            now = datetime.now(UTC)
            task = NodeTask(flow_pk=self.flow_pk, cycle=0, node_id=node_id, status="completed", outputs=outputs)
            task.started_at = task.finished_at = now
            session.add(task)

    async def ended(self) -> dict[str, Any]:
        """Outputs by node once the cycle has ended."""

        async def status() -> bool:
            async with self.sessions() as session:
                return await session.scalar(select(Cycle.status)) == "completed"

        await until(status)
        async with self.sessions() as session:
            return {task.node_id: task.outputs for task in await session.scalars(select(NodeTask))}


@pytest.fixture
async def scene(settings: WorkerSettings, sessions: SessionFactory, add_user: Callable[[], Any]) -> Scene:
    flow_pk = uuid4()
    user_id = await add_user()
    async with sessions.begin() as session:
        session.add(Flow(id=flow_pk, user_id=user_id, flow_id="s", status="running", mode="live", current_version=1))
        await session.flush()
        session.add(FlowVersion(flow_pk=flow_pk, version=1, graph=CHAIN))
        session.add(Schedule(flow_pk=flow_pk, cycle_interval="0", next_cycle=1))
        await session.flush()
        now = datetime.now(UTC)
        session.add(Cycle(flow_pk=flow_pk, cycle=0, version=1, fire_time=now, trigger="manual", status="running"))
    return Scene(settings, sessions, flow_pk)


def signals(scene: Scene, source: str, value: Any) -> Signals:
    outputs = msgspec.Raw(msgspec.json.encode({"value": value}))
    now = datetime.now(UTC)
    return Signals(scene.flow_pk, 0, source, "completed", outputs, None, 1, now, now)


async def test_a_redelivered_start_goes_on_from_what_was_committed(scene: Scene, start_worker: StartWorker) -> None:
    await scene.store("a", {"value": 5})
    await scene.send(CycleStarted(scene.flow_pk, 0))
    async with start_worker():
        assert await scene.ended() == {"a": {"value": 5}, "b": {"value": 15.0}, "c": {"value": 115.0}}


async def test_signals_whose_commit_a_crash_cut_off_are_what_happened(scene: Scene, start_worker: StartWorker) -> None:
    await scene.send(signals(scene, "a", 7), CycleStarted(scene.flow_pk, 0))
    async with start_worker():
        assert await scene.ended() == {"a": {"value": 7}, "b": {"value": 17.0}, "c": {"value": 117.0}}


async def test_duplicates_of_every_message_change_nothing(scene: Scene, start_worker: StartWorker) -> None:
    await scene.store("a", {"value": 5})
    start, told = CycleStarted(scene.flow_pk, 0), signals(scene, "a", 99)
    await scene.send(start, told, start, told, start)
    async with start_worker():
        assert (await scene.ended())["c"] == {"value": 115.0}
        await scene.send(told, start)
        assert (await scene.ended())["c"] == {"value": 115.0}


LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("flow_status", ["running", "stopped"])
async def test_a_cycle_whose_messages_the_broker_lost_is_found_by_the_sweep(
    scene: Scene, start_worker: StartWorker, flow_status: str
) -> None:
    async with scene.sessions.begin() as session:
        (await session.scalars(select(Flow))).one().status = flow_status
        (await session.scalars(select(Cycle))).one().started_at = LONG_AGO
    async with start_worker():
        assert (await scene.ended())["c"] == {"value": 111.0}


class Seen:
    """A conductor that has these cycles in memory, and a broker that takes everything."""

    def __init__(self, known: set[CycleKey]) -> None:
        self._known = known
        self.announced: list[CycleStarted] = []

    def knows(self, key: CycleKey) -> bool:
        return key in self._known

    async def publish(self, exchange: str, routing_key: str, body: bytes, *, message_id: str) -> None:
        self.announced.append(msgspec.json.decode(body, type=CycleStarted))


@pytest.mark.parametrize("apart", [timedelta(seconds=1), timedelta(0)])
async def test_cycles_that_are_held_hide_no_younger_one_from_the_sweep(
    scene: Scene, stores: tuple[CycleStore, CycleStore], monkeypatch: pytest.MonkeyPatch, apart: timedelta
) -> None:
    """Also where all started at the same time."""
    monkeypatch.setattr("tradingflow.py_worker.runtime.sweep.PAGE", 2)
    youngest = 4
    async with scene.sessions.begin() as session:
        (await session.scalars(select(Cycle))).one().started_at = LONG_AGO
        for cycle in range(1, youngest + 1):
            at = LONG_AGO + cycle * apart
            fields = {"version": 1, "trigger": "manual", "status": "running", "started_at": at}
            session.add(Cycle(flow_pk=scene.flow_pk, cycle=cycle, fire_time=LONG_AGO + timedelta(cycle), **fields))
    seen = Seen({(scene.flow_pk, cycle) for cycle in range(youngest)})
    conductor, broker = cast("Conductor", seen), cast("Broker", seen)
    sweep = Sweep(stores[0], conductor, broker, SystemClock(), 4, lambda partition: True)
    assert await sweep.sweep() == 1
    assert [(told.flow_pk, told.cycle) for told in seen.announced] == [(scene.flow_pk, youngest)]


async def test_a_load_under_way_when_the_session_is_lost_revives_nothing(
    scene: Scene, start_worker: StartWorker
) -> None:
    """The delivery that asked for it comes again, perhaps to another worker, and the cycle would run in both."""
    key = (scene.flow_pk, 0)
    async with start_worker() as app:
        worker = app.state.parts.worker
        (stored,) = await worker.store.load([key])
        graph = await worker.loader.graph(scene.flow_pk, stored.version)
        worker.conductor.forget()
        worker.conductor.loaded(key, stored, graph)
        assert not worker.conductor.knows(key)


@pytest.fixture
async def stores(engine: AsyncEngine) -> AsyncIterator[tuple[CycleStore, CycleStore]]:
    """Those of two workers."""
    first, second = CycleStore(engine, "w1"), CycleStore(engine, "w2")
    yield first, second
    await first.close()
    await second.close()


async def test_the_sweep_leaves_paused_flows_and_ended_cycles_alone(
    scene: Scene, stores: tuple[CycleStore, CycleStore]
) -> None:
    async def found(flow_status: str, cycle_status: str) -> bool:
        async with scene.sessions.begin() as session:
            (await session.scalars(select(Flow))).one().status = flow_status
            (await session.scalars(select(Cycle))).one().status = cycle_status
        return await stores[0].stale_cycles(datetime.now(UTC) + timedelta(days=1), 10) != []

    assert await found("stopped", "running")
    assert not await found("paused", "running")
    assert not await found("stopped", "terminated")


async def test_a_second_completion_of_a_task_is_not_applied(
    scene: Scene, stores: tuple[CycleStore, CycleStore]
) -> None:
    first, second = stores
    assert await first.commit([record(scene, "a", 1)]) == [True]
    assert await second.commit([record(scene, "a", 2)]) == [False]
    stored = (await first.load([(scene.flow_pk, 0)]))[0]
    assert stored.outcomes["a"].outputs == {"value": 1}


async def test_a_cycle_cannot_end_before_all_its_tasks_have(
    scene: Scene, stores: tuple[CycleStore, CycleStore]
) -> None:
    store, _ = stores
    end = CycleRecord((scene.flow_pk, 0), "completed", 3, lambda _: None)
    assert await store.commit([record(scene, "a", 1), record(scene, "b", 1), end]) == [True, True, False]
    assert await store.commit([record(scene, "c", 1), end]) == [True, True]


async def test_nothing_is_stored_for_a_cycle_that_was_stopped(
    scene: Scene, stores: tuple[CycleStore, CycleStore]
) -> None:
    async with scene.sessions.begin() as session:
        (await session.scalars(select(Cycle))).one().status = "terminated"
    assert await stores[0].commit([record(scene, "a", 1)]) == [False]


async def test_a_record_that_can_never_be_stored_fails_its_own_task_and_no_other(
    scene: Scene, sessions: SessionFactory, stores: tuple[CycleStore, CycleStore]
) -> None:
    """What its cycle's memory added after it is void: it rests on an ending that is not the stored one."""
    async with sessions.begin() as session:
        now = datetime.now(UTC)
        session.add(Cycle(flow_pk=scene.flow_pk, cycle=1, version=1, fire_time=now, trigger="manual", status="running"))
    applied: dict[str, bool] = {}
    before, culprit, after = record(scene, "a", 1), record(scene, "b", 1), record(scene, "c", 1)
    other = record(scene, "a", 1, cycle=1)
    end = CycleRecord(culprit.key, "completed", 3, lambda was: applied.update(end=was))
    culprit.logs = [LogLine("INFO", "node", "half a pair \ud800", now)]
    committer = Committer(stores[0])
    for name, each in (("before", before), ("culprit", culprit), ("after", after), ("other", other)):
        each.settle = partial(lambda name, was: applied.update({name: was}), name)
        committer.add(each)
    committer.add(end)
    async with running(committer.run()), asyncio.timeout(30):
        await committer.drained()
    assert applied == {"before": True, "culprit": False, "after": False, "other": True, "end": False}
    found = {cycle.key[1]: cycle for cycle in await stores[0].load([culprit.key, other.key])}
    assert {name: task.status for name, task in found[0].outcomes.items()} == {"a": "completed", "b": "failed"}
    assert (found[0].outcomes["b"].error or {})["error"] == NOT_STORABLE
    assert found[1].outcomes["a"].status == "completed"
    assert found[0].status == "running"


async def test_a_database_that_takes_no_ending_at_all_is_waited_for(
    scene: Scene, stores: tuple[CycleStore, CycleStore], sessions: SessionFactory
) -> None:
    """Then the refusal is no fault of the record."""
    async with sessions.begin() as session:
        await session.execute(text("ALTER TABLE node_tasks RENAME TO elsewhere"))
    store, waiting = stores[0], record(scene, "a", 1)
    commit = store.commit
    refused: list[Any] = []

    async def back_after_two(records: Any) -> list[bool]:
        """The table is back once the record and what could be said in its place were refused."""
        try:
            return await commit(records)
        except StatementRefused:
            refused.append(records)
            if len(refused) == 2:
                async with sessions.begin() as session:
                    await session.execute(text("ALTER TABLE elsewhere RENAME TO node_tasks"))
            raise

    store.commit = back_after_two  # type: ignore[method-assign]
    committer = Committer(store)
    committer.add(waiting)
    async with running(committer.run()), asyncio.timeout(30):
        await committer.drained()
    (stored,) = await store.load([waiting.key])
    assert stored.outcomes["a"].status == "completed"


def record(scene: Scene, node_id: str, value: int, cycle: int = 0) -> TaskRecord:
    now = datetime.now(UTC)
    outcome = Outcome("completed", {"value": value}, None, 1, now, now)
    return TaskRecord((scene.flow_pk, cycle), node_id, outcome, f'{{"value": {value}}}', lambda _: None)
