"""Ending what runs in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

# Longer than any part takes to put its things away.
AGAIN_S = 5.0


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
