from __future__ import annotations

import asyncio

import pytest

from tradingflow.core import tasks
from tradingflow.core.tasks import Shared, end_all, in_groups


async def test_a_task_that_lost_its_cancellation_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_S", 0.01)
    lost = 0

    async def deaf_at_first() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    task = asyncio.create_task(deaf_at_first())
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end_all([task])
    assert task.cancelled()


async def test_what_ends_badly_ends_nobody_else() -> None:
    async def breaks() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("while it put its things away")

    pending = [asyncio.create_task(breaks()), asyncio.create_task(asyncio.Event().wait())]
    await asyncio.sleep(0)
    await end_all(pending)
    assert all(task.done() for task in pending)


async def test_nothing_to_end_is_no_error() -> None:
    await end_all([])


async def test_answers_come_in_order_and_no_more_than_a_group_is_waited_for() -> None:
    started: list[int] = []
    ended: list[int] = []

    async def answer(number: int) -> int:
        started.append(number)
        assert len(started) - len(ended) <= 3
        for _ in range(3 - number % 3):  # the first of a group ends last
            await asyncio.sleep(0)
        ended.append(number)
        return number

    assert await in_groups((answer(number) for number in range(8)), 3) == list(range(8))
    assert ended[:3] == [2, 1, 0]


async def test_who_asks_for_work_under_way_is_given_its_result_though_another_left() -> None:
    shared, go, begun = Shared[str, int](), asyncio.Event(), list[int]()

    async def work() -> int:
        begun.append(1)
        await go.wait()
        return len(begun)

    leaving, staying = (asyncio.create_task(shared.result("vault", work)) for _ in range(2))
    other = asyncio.create_task(shared.result("other", work))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await end_all([leaving])
    go.set()
    assert (await staying, await other) == (2, 2)
    assert await shared.result("vault", work) == 3


async def test_work_that_failed_is_begun_again_for_who_asks_next() -> None:
    shared = Shared[str, int]()
    begun: list[int] = []

    async def work() -> int:
        begun.append(1)
        if len(begun) == 1:
            raise ValueError("first")
        return 7

    with pytest.raises(ValueError, match="first"):
        await shared.result("vault", work)
    assert await shared.result("vault", work) == 7
