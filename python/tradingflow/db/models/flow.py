"""Flows, their immutable versions, schedules, cycles, node tasks and logs.

`flows.id` is ours and travels in messages; `flows.flow_id` is the owner's own name for it, unique per owner.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from tradingflow.db.models.base import Base, BigPk, CreatedAt, UuidPk, one_of

FLOW_STATUSES = ("running", "paused", "stopped")
CYCLE_STATUSES = ("running", "completed", "failed", "terminated")
NODE_TASK_STATUSES = ("pending", "running", "completed", "failed", "skipped", "terminated")
MODES = ("backtest", "paper", "live")
OVERLAPS = ("skip", "queue", "replace")
MISFIRES = ("skip", "once", "all")
DEAD_LETTER_STATUSES = ("dead", "replayed")
TRIGGER_EVENT_STATUSES = ("pending", "started", "skipped")


class Flow(Base):
    """`paused_nodes` start no task in any cycle until they are resumed; the rest of the flow goes on."""

    __tablename__ = "flows"
    __table_args__ = (
        UniqueConstraint("user_id", "flow_id"),
        CheckConstraint(one_of("status", FLOW_STATUSES), name="status"),
        CheckConstraint(one_of("mode", MODES), name="mode"),
    )

    id: Mapped[UuidPk]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    flow_id: Mapped[str]
    status: Mapped[str]
    mode: Mapped[str] = mapped_column(default="live")
    shadow_bound_bps: Mapped[int | None] = mapped_column(Integer)
    """Live cycles also run on paper, and a fill further apart than this is an alarm; NULL: they do not."""
    current_version: Mapped[int] = mapped_column(Integer)
    paused_nodes: Mapped[list[str]] = mapped_column(ARRAY(String), default=list, server_default=text("'{}'"))
    created_at: Mapped[CreatedAt]


class FlowVersion(Base):
    """The JSON graph as it was sent. Rows are never updated."""

    __tablename__ = "flow_versions"

    flow_pk: Mapped[UUID] = mapped_column(ForeignKey("flows.id", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    graph: Mapped[dict[str, Any]]
    created_at: Mapped[CreatedAt]


class Schedule(Base):
    """When a flow fires next. A row with `next_fire_at` in the past is due; NULL never fires by itself.

    `trigger` is what starts cycles, `{"type": interval | cron | manual | webhook | contract_event, …}`; without a
    `cycle_interval` only trigger events and requests do.
    `overlap` says what a fire time does that finds the flow's last cycle still open, `misfire` what becomes of
    fire times nobody was there for. The row's lock is what every start of a cycle of this flow takes first.
    """

    __tablename__ = "schedules"
    __table_args__ = (
        CheckConstraint(one_of("overlap", OVERLAPS), name="overlap"),
        CheckConstraint(one_of("misfire", MISFIRES), name="misfire"),
        Index("ix_schedules_due", "next_fire_at", postgresql_where="next_fire_at IS NOT NULL"),
        Index("ix_schedules_contract", text("(trigger ->> 'address')"), postgresql_where="trigger ? 'address'"),
    )

    flow_pk: Mapped[UUID] = mapped_column(ForeignKey("flows.id", ondelete="CASCADE"), primary_key=True)
    trigger: Mapped[dict[str, Any]] = mapped_column(server_default=text("""'{"type": "interval"}'"""))
    listens_from_block: Mapped[int | None]
    """Contract events of blocks before happened before the flow waited for them; NULL: all are taken."""
    cycle_interval: Mapped[str | None]
    next_fire_at: Mapped[datetime | None]
    next_cycle: Mapped[int] = mapped_column(default=0)
    overlap: Mapped[str] = mapped_column(default="skip")
    misfire: Mapped[str] = mapped_column(default="once")


class Cycle(Base):
    """One run of one version. UNIQUE(flow, fire time): two schedulers cannot start the same run twice.

    `trigger` says why it runs: `interval`, `cron`, `manual`, `rerun`, `partial`, `node`, `webhook` or `contract_event`;
    `trigger_data` is what the webhook or the contract event said. `rerun_of` is the cycle that a rerun runs again; each
    is run again once at most, so that what failed in it is not traded by two.
    """

    __tablename__ = "cycles"
    __table_args__ = (
        ForeignKeyConstraint(
            ["flow_pk", "version"], ["flow_versions.flow_pk", "flow_versions.version"], ondelete="CASCADE"
        ),
        UniqueConstraint("flow_pk", "fire_time"),
        CheckConstraint(one_of("status", CYCLE_STATUSES), name="status"),
        CheckConstraint(one_of("mode", MODES), name="mode"),
        Index("ix_cycles_open", "flow_pk", postgresql_where="status = 'running'"),
        Index("ix_cycles_failed", "finished_at", postgresql_where="status = 'failed'"),
    )

    flow_pk: Mapped[UUID] = mapped_column(primary_key=True)
    cycle: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(Integer)
    fire_time: Mapped[datetime]
    trigger: Mapped[str] = mapped_column(default="interval")
    trigger_data: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    mode: Mapped[str] = mapped_column(default="live", server_default="live")
    """The flow's mode when the cycle was opened: a cycle never changes from paper to live on its way."""
    rerun_of: Mapped[int | None]
    status: Mapped[str]
    started_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
    shadowed_at: Mapped[datetime | None]


class NodeTask(Base):
    """One node in one cycle. `outputs` maps source handle to value: with the version's edges, these are the signals.

    The primary key is what makes a node task complete once: a second completion inserts nothing.
    """

    __tablename__ = "node_tasks"
    __table_args__ = (
        ForeignKeyConstraint(["flow_pk", "cycle"], ["cycles.flow_pk", "cycles.cycle"], ondelete="CASCADE"),
        CheckConstraint(one_of("status", NODE_TASK_STATUSES), name="status"),
    )

    flow_pk: Mapped[UUID] = mapped_column(primary_key=True)
    cycle: Mapped[int] = mapped_column(primary_key=True)
    node_id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    outputs: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    worker_id: Mapped[str | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class FlowLog(Base):
    """A line a node or the engine said about a cycle, for the flow's owner to read."""

    __tablename__ = "flow_logs"
    __table_args__ = (Index("ix_flow_logs_flow_pk_id", "flow_pk", "id"),)

    id: Mapped[BigPk]
    flow_pk: Mapped[UUID] = mapped_column(ForeignKey("flows.id", ondelete="CASCADE"))
    cycle: Mapped[int]
    node_id: Mapped[str | None]
    log_level: Mapped[str]
    log_source: Mapped[str]
    message: Mapped[str]
    created_at: Mapped[CreatedAt]


class NodeStateEntry(Base):
    """What one node remembers from cycle to cycle. Written in the transaction that completes the node task."""

    __tablename__ = "node_state"

    flow_pk: Mapped[UUID] = mapped_column(ForeignKey("flows.id", ondelete="CASCADE"), primary_key=True)
    node_id: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(JSONB(none_as_null=False))
    cycle: Mapped[int]
    updated_at: Mapped[CreatedAt]


class DeadLetter(Base):
    """A message on a cycle that could not be handled. `body` is kept as it came; a replay sends it again."""

    __tablename__ = "dead_letters"
    __table_args__ = (
        CheckConstraint(one_of("status", DEAD_LETTER_STATUSES), name="status"),
        Index("ix_dead_letters_flow_pk_id", "flow_pk", "id"),
    )

    id: Mapped[BigPk]
    flow_pk: Mapped[UUID | None]
    cycle: Mapped[int | None]
    message_id: Mapped[str] = mapped_column(unique=True)
    routing_key: Mapped[str]
    body: Mapped[bytes]
    reason: Mapped[str]
    status: Mapped[str] = mapped_column(default="dead")
    created_at: Mapped[CreatedAt]
    replayed_at: Mapped[datetime | None]


class FlowHook(Base):
    """A flow's webhook. Only the token's SHA-256 is kept: whoever reads the table cannot fire the flow."""

    __tablename__ = "flow_hooks"

    flow_pk: Mapped[UUID] = mapped_column(ForeignKey("flows.id", ondelete="CASCADE"), primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[CreatedAt]


class TriggerEvent(Base):
    """Something that happened outside and starts a cycle of a flow, in the order of `id`.

    UNIQUE(flow, dedupe key): an event that is delivered twice starts one cycle. `skipped` with its reason when the
    flow's overlap said so, the flow was stopped, its trigger was changed, too many waited already, or a reorg took the
    event back; the last is pending again when the event comes back.
    """

    __tablename__ = "trigger_events"
    __table_args__ = (
        UniqueConstraint("flow_pk", "dedupe_key"),
        CheckConstraint(one_of("status", TRIGGER_EVENT_STATUSES), name="status"),
        Index("ix_trigger_events_pending", "flow_pk", "id", postgresql_where="status = 'pending'"),
        Index("ix_trigger_events_flow_pk_id", "flow_pk", "id"),
    )

    id: Mapped[BigPk]
    flow_pk: Mapped[UUID] = mapped_column(ForeignKey("flows.id", ondelete="CASCADE"))
    kind: Mapped[str]
    dedupe_key: Mapped[str]
    payload: Mapped[Any | None] = mapped_column(JSONB(none_as_null=True))
    status: Mapped[str] = mapped_column(default="pending")
    reason: Mapped[str | None]
    cycle: Mapped[int | None]
    received_at: Mapped[CreatedAt]
