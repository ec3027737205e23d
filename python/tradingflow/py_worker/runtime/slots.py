"""Who runs next when the worker is full: users take turns, whatever the length of their queues."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from uuid import UUID

Start = Callable[[], bool]
"""Starts the work; False when there is nothing left to start, and the slot goes to the next."""


class FairSlots:
    """At most `limit` pieces of work at a time, handed out round-robin between users."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = 0
        self._queues: OrderedDict[UUID, deque[Start]] = OrderedDict()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return sum(map(len, self._queues.values()))

    def waiting_of(self, user: UUID) -> int:
        return len(self._queues.get(user, ()))

    def submit(self, user: UUID, start: Start) -> None:
        """Start now when a slot is free, else when it is this user's turn."""
        if self._taken < self.limit:
            self._taken += start()
        else:
            self._queues.setdefault(user, deque()).append(start)

    def free(self) -> None:
        """One piece of work is over."""
        self._taken -= 1
        while self._queues and self._taken < self.limit:
            user, queue = self._queues.popitem(last=False)
            start = queue.popleft()
            if queue:
                self._queues[user] = queue
            self._taken += start()


class Slot:
    """A slot one piece of work has taken; given back once, however often it is said."""

    __slots__ = ("_slots", "_taken", "_user")

    def __init__(self, slots: FairSlots, user: UUID) -> None:
        self._slots = slots
        self._user = user
        self._taken = True

    def give_back(self) -> None:
        if self._taken:
            self._taken = False
            self._slots.free()

    async def pause(self, seconds: float) -> None:
        """Sleep without the slot, then until it is this user's turn again."""
        self.give_back()
        await asyncio.sleep(seconds)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._slots.submit(self._user, lambda: self._take(turn))
        await turn

    def _take(self, turn: asyncio.Future[None]) -> bool:
        if turn.done():  # whoever waited was cancelled
            return False
        self._taken = True
        turn.set_result(None)
        return True
