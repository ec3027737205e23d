"""What is stored of a cycle, as the parts of the runtime hand it around."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from tradingflow.py_worker.engine.cycle import CycleEnding, Outcome

CycleKey = tuple[UUID, int]
"""(flows.id, cycle)."""


class OpenCycle(NamedTuple):
    """A cycle that has not ended, as a list of them is sorted."""

    started_at: datetime
    flow_pk: UUID
    cycle: int

    @property
    def key(self) -> CycleKey:
        return self.flow_pk, self.cycle


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line for the flow's owner."""

    log_level: str
    log_source: str
    message: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class JournalText:
    """What a node task took in from outside, as a JSON list; `is_cut` when more came in than is kept."""

    entries: str
    is_cut: bool


@dataclass(slots=True)
class TaskRecord:
    """The end of one node task, to be committed. `outputs` is `outcome.outputs` as JSON text.

    `settle(applied)` is called once the transaction is through; False means another ending was there first.
    """

    key: CycleKey
    node_id: str
    outcome: Outcome
    outputs: str
    settle: Callable[[bool], None]
    logs: list[LogLine] = field(default_factory=list)
    state: Mapping[str, Any] = field(default_factory=dict)
    journal: JournalText | None = None


@dataclass(slots=True)
class RunningRecord:
    """A node task that has been running for a while, made visible. Nobody waits for it."""

    key: CycleKey
    node_id: str
    attempt: int
    started_at: datetime


@dataclass(slots=True)
class CycleRecord:
    """The end of a cycle of `nodes` nodes; it is stored only when all of them are found ended.

    `said` is what the engine says of it in the flow's log; nothing of a cycle that completed.
    """

    key: CycleKey
    ending: CycleEnding
    nodes: int
    settle: Callable[[bool], None]
    said: str = ""


Record = TaskRecord | RunningRecord | CycleRecord


@dataclass(frozen=True, slots=True)
class StoredCycle:
    """A cycle as the database has it, with the outcomes of its ended node tasks by node id."""

    key: CycleKey
    flow_id: str
    user_id: UUID
    flow_status: str
    mode: str
    version: int
    status: str
    outcomes: Mapping[str, Outcome]
    paused_nodes: frozenset[str] = frozenset()
    trigger: str = "manual"
    trigger_data: Any = None
