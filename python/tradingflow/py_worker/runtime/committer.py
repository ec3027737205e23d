"""Group commit: whatever ended while the last transaction was under way goes into the next one.

Records are committed in the order they were added, so a node task is never durable before those it rests on.
"""

from __future__ import annotations

import asyncio
from collections import deque

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import get_logger
from tradingflow.py_worker.runtime.records import CycleRecord, Record, RunningRecord, TaskRecord
from tradingflow.py_worker.runtime.store import CycleStore

log = get_logger(__name__)

# Larger groups do not commit faster per row (measured), but hold memory and latency.
MAX_GROUP = 1_000
# A lone cycle's hops would each flush the disk that the broker flushes for its signals: a short wait commits several
# hops with one flush.
GATHER_BELOW = 20
GATHER_S = 0.008
RETRY_S = 0.2


class Committer:
    def __init__(self, store: CycleStore) -> None:
        self._store = store
        self._waiting: deque[Record] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, record: Record) -> None:
        self._waiting.append(record)
        self._idle.clear()
        self._wake.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def drained(self) -> None:
        """Wait until everything added so far is durable."""
        await self._idle.wait()

    async def run(self) -> None:
        """Commit until cancelled. A database that is away is waited for; nothing is dropped."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if len(self._waiting) < GATHER_BELOW:
                await asyncio.sleep(GATHER_S)
            while self._waiting:
                await self._commit(self._next_group())
            self._idle.set()

    def _next_group(self) -> list[Record]:
        """The oldest records, up to the first that ends a node task already in the group."""
        group: list[Record] = []
        keys: set[tuple[object, ...]] = set()
        while self._waiting and len(group) < MAX_GROUP:
            key = _identity(self._waiting[0])
            if key in keys:
                break
            keys.add(key)
            group.append(self._waiting.popleft())
        return group

    async def _commit(self, group: list[Record]) -> None:
        applied = await self._commit_until_it_works(group)
        for record, was_applied in zip(group, applied, strict=True):
            if not isinstance(record, RunningRecord):
                record.settle(was_applied)

    async def _commit_until_it_works(self, group: list[Record]) -> list[bool]:
        while True:
            try:
                return await self._store.commit(group)
            except DependencyUnavailable as error:
                log.warning("commit is retried", records=len(group), error=error, cause=error.__cause__)
                await asyncio.sleep(RETRY_S)


def _identity(record: Record) -> tuple[object, ...]:
    if isinstance(record, TaskRecord):
        return ("task", *record.key, record.node_id)
    if isinstance(record, CycleRecord):
        return ("cycle", *record.key)
    return ("running", *record.key, record.node_id)
