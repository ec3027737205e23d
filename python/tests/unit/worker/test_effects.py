"""An effect waits until what it rests on is durable; who runs next is fair."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import pytest

from tests.unit.engine.conftest import edge, graph_of, node
from tradingflow.core.clock import SystemClock
from tradingflow.messaging.partitions import Delivery, Session
from tradingflow.py_worker.engine.cycle import Outcome
from tradingflow.py_worker.kit import HttpClient, MarketData
from tradingflow.py_worker.runtime.context import (
    MAX_LOG_LINES,
    BufferedState,
    CollectedLog,
    RunContext,
    RunRecorder,
    Surroundings,
)
from tradingflow.py_worker.runtime.live import LiveCycle
from tradingflow.py_worker.runtime.records import StoredCycle
from tradingflow.py_worker.runtime.slots import FairSlots, Slot

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel as RawChannel


class Called:
    """Stands for the way out; remembers that it was used."""

    def __init__(self) -> None:
        self.calls = 0

    def for_owner(self, _: UUID) -> HttpClient:
        return cast("HttpClient", self)

    async def request(self, *_: Any, **__: Any) -> str:
        self.calls += 1
        return "answer"


async def stored(key: str) -> Any:
    return {"known": 5}.get(key)


def live_cycle() -> LiveCycle:
    graph = graph_of([node("a", "start"), node("b")], [edge("a", "b")])
    return LiveCycle(StoredCycle((uuid4(), 0), "f", uuid4(), "running", "live", 1, "running", {}), graph, 4)


async def test_an_effect_waits_until_the_inputs_it_rests_on_are_committed() -> None:
    live, way_out = live_cycle(), Called()
    live.state.start()
    live.state.finish(0, Outcome("completed", {"out": 1}))
    around = Surroundings(SystemClock(), cast("MarketData", None), http=way_out)
    recorder = RunRecorder(CollectedLog(SystemClock(), "node"), BufferedState(stored))
    context = RunContext(around, live, 1, [], recorder)
    effect = asyncio.ensure_future(context.http.request("GET", "https://example.org"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert way_out.calls == 0
    live.mark_durable(0)
    await effect
    assert way_out.calls == 1


async def test_a_message_is_acknowledged_only_once_the_ending_it_told_of_is_committed() -> None:
    live, session = live_cycle(), Session(cast("RawChannel", None), partitions=1)
    session.hand_out(0)
    delivery = Delivery(session, 0, 1, "m", b"")
    live.release_when_durable(0, delivery)
    delivery.release()
    assert session.handed_out == [1]
    live.mark_durable(0)
    await asyncio.sleep(0)
    assert session.handed_out == [0]


async def test_state_is_written_only_with_the_end_of_the_task_and_compared_with_what_it_would_be() -> None:
    state = BufferedState(stored)
    assert await state.get("known") == 5
    assert not await state.compare_and_set("known", 4, 6)
    assert await state.compare_and_set("known", 5, 6)
    assert await state.get("known") == 6
    assert state.writes == {"known": 6}
    assert await BufferedState(stored).get("known") == 5


def test_log_lines_are_bounded_and_redacted() -> None:
    log = CollectedLog(SystemClock(), "node")
    log.info("signing in", password="hunter2")
    for number in range(MAX_LOG_LINES + 5):
        log.info("line", number=number)
    lines = log.lines()
    assert "hunter2" not in lines[0].message
    assert len(lines) == MAX_LOG_LINES + 1
    assert lines[-1].message == "6 more lines were left out"


def test_users_take_turns_however_long_their_queues_are() -> None:
    slots, order = FairSlots(1), list[str]()
    greedy, modest = UUID(int=1), UUID(int=2)

    def start(name: str) -> bool:
        order.append(name)
        return True

    for number in range(5):
        slots.submit(greedy, lambda number=number: start(f"greedy {number}"))  # type: ignore[misc]
    slots.submit(modest, lambda: start("modest"))
    for user in (greedy, modest, greedy, greedy, greedy):
        slots.free(user)
    assert order.index("modest") == 1
    assert len(order) == 6
    assert slots.taken == 1


def test_one_user_holds_half_of_the_slots_at_most() -> None:
    slots, started = FairSlots(4), list[UUID]()
    greedy, modest = UUID(int=1), UUID(int=2)

    def start(user: UUID) -> bool:
        started.append(user)
        return True

    for _ in range(5):
        slots.submit(greedy, partial(start, greedy))
    assert (slots.taken, slots.waiting, slots.waiting_of(greedy)) == (2, 3, 3)
    slots.submit(modest, partial(start, modest))
    assert started == [greedy, greedy, modest]
    slots.free(modest)
    assert started.count(greedy) == 2
    slots.free(greedy)
    assert (started.count(greedy), slots.waiting_of(greedy)) == (3, 2)


@pytest.mark.parametrize("seed", range(20))
def test_no_slot_is_idle_for_whoever_may_have_it_and_everybody_has_a_turn(seed: int) -> None:
    random, limit = Random(seed), seed % 7 + 1
    slots, users = FairSlots(limit), [UUID(int=number) for number in range(5)]
    held, waiting, passed_over = Counter[UUID](), Counter[UUID](), Counter[UUID]()

    def may_have_more(user: UUID) -> bool:
        return waiting[user] > 0 and held[user] < (limit + 1) // 2

    def start(user: UUID) -> bool:
        waiting[user] -= 1
        passed_over[user] = 0
        for other in users:
            passed_over[other] += other != user and may_have_more(other)
        is_there = random.random() < 0.9
        held[user] += is_there
        return is_there

    def holds_true() -> None:
        assert slots.taken == held.total() <= limit
        assert slots.taken == limit or not any(map(may_have_more, users))
        assert max(held.values(), default=0) <= (limit + 1) // 2
        assert all(slots.waiting_of(user) == waiting[user] for user in users)
        assert max(passed_over.values(), default=0) < len(users)

    for _ in range(300):
        if held.total() and random.random() < 0.5:
            user = random.choice(list(held.elements()))
            held[user] -= 1
            slots.free(user)
        else:
            user = random.choice(users[: random.randint(1, len(users))])
            waiting[user] += 1
            slots.submit(user, partial(start, user))
        holds_true()
    while held.total():
        user = next(held.elements())
        held[user] -= 1
        slots.free(user)
        holds_true()
    assert slots.waiting == 0


async def test_who_pauses_leaves_the_slot_to_others_and_takes_turns_for_it_afterwards() -> None:
    slots, order = FairSlots(1), list[str]()

    def other() -> bool:
        order.append("other")
        return True

    slots.submit(UUID(int=1), lambda: True)
    slot = Slot(slots, UUID(int=1))
    slots.submit(UUID(int=2), other)
    assert order == []
    pausing = asyncio.ensure_future(slot.pause(0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert (order, pausing.done(), slots.waiting) == (["other"], False, 1)
    slots.free(UUID(int=2))
    await pausing
    assert slots.taken == 1
    slot.give_back()
    assert slots.taken == 0


async def test_who_is_cancelled_while_it_waits_for_a_slot_takes_none() -> None:
    slots = FairSlots(1)
    slots.submit(UUID(int=1), lambda: True)
    slot = Slot(slots, UUID(int=1))
    slots.submit(UUID(int=2), lambda: True)
    pausing = asyncio.ensure_future(slot.pause(0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert slots.waiting == 1
    pausing.cancel()
    slots.free(UUID(int=2))
    slot.give_back()
    assert (slots.taken, slots.waiting) == (0, 0)
