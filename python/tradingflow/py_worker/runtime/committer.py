"""Group commit: whatever ended while the last transaction was under way goes into the next one.

Records are committed in the order they were added, so a node task is never durable before those it rests on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import get_logger
from tradingflow.py_worker.engine.cycle import Outcome
from tradingflow.py_worker.runtime.connection import StatementRefused
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
NOT_STORABLE = "ending_not_storable"


class Committer:
    def __init__(self, store: CycleStore) -> None:
        self._store = store
        self._waiting: deque[Record] = deque()
        self._one_by_one = 0
        """So many of the next records were refused together: each goes alone, so that only the culprit fails."""
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
        """Commit until cancelled. A database that is away is waited for; what it will never take ends as failed."""
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
        most = 1 if self._one_by_one else MAX_GROUP
        self._one_by_one = max(self._one_by_one - 1, 0)
        while self._waiting and len(group) < most:
            key = _identity(self._waiting[0])
            if key in keys:
                break
            keys.add(key)
            group.append(self._waiting.popleft())
        return group

    async def _commit(self, group: list[Record]) -> None:
        while True:
            try:
                applied = await self._store.commit(group)
            except Exception as error:  # noqa: BLE001 - the commits' edge: what one record breaks must not stop the others
                if isinstance(error, DependencyUnavailable) and not isinstance(error, StatementRefused):
                    log.warning("commit is retried", records=len(group), error=error, cause=error.__cause__)
                elif len(group) > 1:
                    self._waiting.extendleft(reversed(group))
                    self._one_by_one = len(group)
                    return
                elif await self._is_given_up(group[0], error):
                    return
                await asyncio.sleep(RETRY_S)
            else:
                for record, was_applied in zip(group, applied, strict=True):
                    _settle(record, was_applied)
                return

    async def _is_given_up(self, record: Record, error: Exception) -> bool:
        """Commit the least that can be said in place of a record that is refused; False when that is refused, too.

        What a cycle's memory added after a task that did not end as it believes is void: the cycle begins again from
        the database.
        """
        cause = type(error.__cause__ or error).__name__  # its text repeats what the record holds
        least = _least(record, cause)
        try:
            applied = await self._store.commit([least])
        except Exception as again:  # noqa: BLE001 - then it is not this record's fault
            log.warning("commit is retried", records=1, error=type(again).__name__, cause=cause)
            return False
        log.error("a record was refused", flow_pk=record.key[0], cycle=record.key[1], cause=cause)
        if isinstance(record, TaskRecord):
            void = [record, *(later for later in self._waiting if later.key == record.key)]
            self._waiting = deque(later for later in self._waiting if later.key != record.key)
            for each in void:
                _settle(each, False)
        else:
            _settle(record, applied[0])
        return True


def _settle(record: Record, was_applied: bool) -> None:
    if not isinstance(record, RunningRecord):
        record.settle(was_applied)


def _least(record: Record, cause: str) -> Record:
    if isinstance(record, TaskRecord):
        told = {"error": NOT_STORABLE, "detail": f"PostgreSQL cannot hold what the node left: {cause}"}
        ended = record.outcome
        outcome = Outcome("failed", {}, told, ended.attempt, ended.started_at, ended.finished_at)
        return TaskRecord(record.key, record.node_id, outcome, "{}", record.settle)
    return replace(record, said="") if isinstance(record, CycleRecord) else record


def _identity(record: Record) -> tuple[object, ...]:
    if isinstance(record, TaskRecord):
        return ("task", *record.key, record.node_id)
    if isinstance(record, CycleRecord):
        return ("cycle", *record.key)
    return ("running", *record.key, record.node_id)
