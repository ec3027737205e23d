"""Who runs next when the worker is full: users take turns, whatever the length of their queues."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from uuid import UUID

Start = Callable[[], bool]
"""Starts the work; False when there is nothing left to start, and the slot goes to the next."""


class FairSlots:
    """At most `limit` pieces of work at a time, handed out round-robin between users, and half of them to one at most.

    A slot cannot be taken back. Work that holds its slots for long leaves the other half to everybody else.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = 0
        self._held = Counter[UUID]()
        self._queues: OrderedDict[UUID, deque[Start]] = OrderedDict()
        # Of those who hold as many as one may; apart, so that nobody's turn is sought among them.
        self._queues_at_bound: dict[UUID, deque[Start]] = {}

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return sum(map(len, self._queues.values())) + sum(map(len, self._queues_at_bound.values()))

    def waiting_of(self, user: UUID) -> int:
        return len(self._queues.get(user, ())) + len(self._queues_at_bound.get(user, ()))

    def submit(self, user: UUID, start: Start) -> None:
        """Start now when a slot is free and this user may have it, else when it is this user's turn."""
        is_at_bound = self._is_at_bound(user)
        if self._taken < self.limit and not is_at_bound:
            self._give(user, start)
        else:
            queues = self._queues_at_bound if is_at_bound else self._queues
            queues.setdefault(user, deque()).append(start)

    def free(self, user: UUID) -> None:
        """One piece of this user's work is over."""
        self._taken -= 1
        self._held[user] -= 1
        if not self._held[user]:
            del self._held[user]
        if queue := self._queues_at_bound.pop(user, None):
            self._queues[user] = queue
        while self._queues and self._taken < self.limit:
            next_user, queue = self._queues.popitem(last=False)
            start = queue.popleft()
            if queue:
                self._queues[next_user] = queue
            self._give(next_user, start)

    def _give(self, user: UUID, start: Start) -> None:
        if not start():
            return
        self._taken += 1
        self._held[user] += 1
        if self._is_at_bound(user) and (queue := self._queues.pop(user, None)):
            self._queues_at_bound[user] = queue

    def _is_at_bound(self, user: UUID) -> bool:
        return self._held[user] >= (self.limit + 1) // 2


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
            self._slots.free(self._user)

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
