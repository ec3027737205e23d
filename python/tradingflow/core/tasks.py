"""Running things side by side, and ending them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

# Longer than any part takes to put its things away.
AGAIN_S = 5.0

Key = TypeVar("Key")
Answer = TypeVar("Answer")


async def in_groups(questions: Iterable[Awaitable[Answer]], size: int) -> list[Answer]:
    """The answers to all, in order; at most `size` are waited for at once, and a generator makes no more than those."""
    remaining = iter(questions)
    answers: list[Answer] = []
    while group := list(islice(remaining, size)):
        answers += await asyncio.gather(*group)
    return answers


class Shared(Generic[Key, Answer]):
    """Work that all who ask for it while it is under way are given the one result of."""

    def __init__(self) -> None:
        self._under_way: dict[Key, asyncio.Task[Answer]] = {}

    async def result(self, key: Key, begin: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """Of the work under way, or of what `begin` begins."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(begin())
            task.add_done_callback(partial(self._ended, key))
        return await asyncio.shield(task)  # the others still want it when one client has left

    def _ended(self, key: Key, task: asyncio.Task[Answer]) -> None:
        del self._under_way[key]
        if not task.cancelled():
            task.exception()  # seen, also when nobody waits for it any more


@asynccontextmanager
async def running(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run endless loops beside the body; end them with it."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        await end_all(tasks)


async def end_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until every one has ended, however it ends.

    A cancellation may be lost: `asyncio.wait_for` of Python 3.11, and aio_pika with it, drops one that comes together
    with the answer it waits for. Whoever stops would then wait for ever, so it is said again.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=AGAIN_S)
        for task in ended:
            if not task.cancelled():
                task.exception()  # seen: it is of no interest any more
