"""Running things side by side, and ending them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, TypeVar

# Longer than any part takes to put its things away.
AGAIN_S = 5.0

Answer = TypeVar("Answer")


async def in_groups(questions: Iterable[Awaitable[Answer]], size: int) -> list[Answer]:
    """The answers to all, in order; at most `size` are waited for at once, and a generator makes no more than those."""
    remaining = iter(questions)
    answers: list[Answer] = []
    while group := list(islice(remaining, size)):
        answers += await asyncio.gather(*group)
    return answers


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
