"""What the flow routes ask the database. Every query is bound to an owner."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Text, cast, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.errors import NotFound
from tradingflow.db.models import (
    Cycle,
    Flow,
    FlowLog,
    FlowVersion,
    JournalEntry,
    NodeTask,
    Schedule,
    ShadowDivergence,
    Trade,
)

# Of graphs as JSON text; objects take many times as much.
MAX_PAGE_CHARS = 2_000_000
VERSIONS_AT_A_TIME = 5


async def find_flow(session: AsyncSession, user_id: UUID, flow_id: str, *, lock: bool = False) -> Flow | None:
    statement = select(Flow).where(Flow.user_id == user_id, Flow.flow_id == flow_id)
    return await session.scalar(statement.with_for_update() if lock else statement)


async def get_flow(session: AsyncSession, user_id: UUID, flow_id: str, *, lock: bool = False) -> Flow:
    """Raises NotFound, also for somebody else's."""
    flow = await find_flow(session, user_id, flow_id, lock=lock)
    if flow is None:
        raise NotFound("flow", flow_id)
    return flow


async def get_schedule(session: AsyncSession, flow: Flow, *, lock: bool = False) -> Schedule:
    statement = select(Schedule).where(Schedule.flow_pk == flow.id)
    return (await session.scalars(statement.with_for_update() if lock else statement)).one()


async def list_flows(
    session: AsyncSession, user_id: UUID, after: str | None, limit: int
) -> Sequence[tuple[Flow, Schedule]]:
    statement = select(Flow, Schedule).join(Schedule, Schedule.flow_pk == Flow.id).where(Flow.user_id == user_id)
    if after is not None:
        statement = statement.where(Flow.flow_id > after)
    rows = await session.execute(statement.order_by(Flow.flow_id).limit(limit))
    return [(flow, schedule) for flow, schedule in rows]


async def get_version(session: AsyncSession, flow: Flow, version: int) -> FlowVersion:
    found = await session.get(FlowVersion, (flow.id, version))
    if found is None:
        raise NotFound("version", version)
    return found


async def list_cycles(session: AsyncSession, flow: Flow, before: int | None, limit: int) -> Sequence[Cycle]:
    statement = select(Cycle).where(Cycle.flow_pk == flow.id)
    if before is not None:
        statement = statement.where(Cycle.cycle < before)
    return (await session.scalars(statement.order_by(Cycle.cycle.desc()).limit(limit))).all()


async def get_cycle(session: AsyncSession, flow: Flow, cycle: int, *, lock: bool = False) -> Cycle:
    statement = select(Cycle).where(Cycle.flow_pk == flow.id, Cycle.cycle == cycle)
    found = await session.scalar(statement.with_for_update() if lock else statement)
    if found is None:
        raise NotFound("cycle", cycle)
    return found


async def journal(session: AsyncSession, flow: Flow, cycle: int) -> Sequence[JournalEntry]:
    """What came in from outside in a cycle, by node."""
    statement = select(JournalEntry).where(JournalEntry.flow_pk == flow.id, JournalEntry.cycle == cycle)
    return (await session.scalars(statement.order_by(JournalEntry.node_id))).all()


async def divergences(session: AsyncSession, flow: Flow, before: int | None, limit: int) -> Sequence[ShadowDivergence]:
    """Newest first."""
    statement = select(ShadowDivergence).where(ShadowDivergence.flow_pk == flow.id)
    if before is not None:
        statement = statement.where(ShadowDivergence.id < before)
    return (await session.scalars(statement.order_by(ShadowDivergence.id.desc()).limit(limit))).all()


async def node_tasks(session: AsyncSession, flow: Flow, cycle: int) -> Sequence[NodeTask]:
    statement = select(NodeTask).where(NodeTask.flow_pk == flow.id, NodeTask.cycle == cycle)
    return (await session.scalars(statement.order_by(NodeTask.started_at.nulls_last(), NodeTask.node_id))).all()


async def running_tasks(session: AsyncSession, user_id: UUID, limit: int) -> Sequence[tuple[Flow, NodeTask]]:
    """Tasks of open cycles that are shown as running, oldest first."""
    statement = (
        select(Flow, NodeTask)
        .join(Cycle, Cycle.flow_pk == Flow.id)
        .join(NodeTask, (NodeTask.flow_pk == Cycle.flow_pk) & (NodeTask.cycle == Cycle.cycle))
        .where(Flow.user_id == user_id, Cycle.status == "running", NodeTask.status == "running")
    )
    rows = await session.execute(statement.order_by(NodeTask.started_at).limit(limit))
    return [(flow, task) for flow, task in rows]


async def count_open_cycles(session: AsyncSession, flow: Flow) -> int:
    statement = select(func.count()).select_from(Cycle).where(Cycle.flow_pk == flow.id, Cycle.status == "running")
    return await session.scalar(statement) or 0


@dataclass(frozen=True)
class LogFilters:
    """None takes everything."""

    cycle: int | None = None
    node_id: str | None = None
    log_level: str | None = None
    log_source: str | None = None
    offset: int = 0
    ascending: bool = False


async def list_logs(
    session: AsyncSession, flow: Flow, filters: LogFilters, past: int | None, limit: int
) -> Sequence[FlowLog]:
    """Lines after the one with id `past`, in the order asked for."""
    statement = select(FlowLog).where(FlowLog.flow_pk == flow.id)
    for column, value in (
        (FlowLog.cycle, filters.cycle),
        (FlowLog.node_id, filters.node_id),
        (FlowLog.log_level, filters.log_level),
        (FlowLog.log_source, filters.log_source),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if past is not None:
        statement = statement.where(FlowLog.id > past if filters.ascending else FlowLog.id < past)
    order = FlowLog.id if filters.ascending else FlowLog.id.desc()
    return (await session.scalars(statement.order_by(order).offset(filters.offset).limit(limit))).all()


async def get_log(session: AsyncSession, user_id: UUID, log_id: int) -> tuple[Flow, FlowLog]:
    statement = select(Flow, FlowLog).join(Flow, Flow.id == FlowLog.flow_pk)
    found = (await session.execute(statement.where(FlowLog.id == log_id, Flow.user_id == user_id))).first()
    if found is None:
        raise NotFound("log line", log_id)
    return found[0], found[1]


@dataclass(frozen=True)
class StoredVersion:
    version: int
    created_at: datetime
    graph: dict[str, Any]


async def list_versions(
    session: AsyncSession, flow: Flow, before: int | None, limit: int
) -> tuple[list[StoredVersion], bool]:
    """At least one, while there is one, and no more than MAX_PAGE_CHARS of graphs; and whether there are more."""
    columns = (FlowVersion.version, FlowVersion.created_at, cast(FlowVersion.graph, Text))
    statement = select(*columns).where(FlowVersion.flow_pk == flow.id)
    if before is not None:
        statement = statement.where(FlowVersion.version < before)
    statement = statement.order_by(FlowVersion.version.desc()).limit(limit + 1)
    found = await session.stream(statement, execution_options={"yield_per": VERSIONS_AT_A_TIME})
    page: list[StoredVersion] = []
    chars = 0
    try:
        async for version, created_at, text in found:
            chars += len(text)
            if page and (len(page) == limit or chars > MAX_PAGE_CHARS):
                return page, True
            page.append(StoredVersion(version, created_at, json.loads(text)))
    finally:
        await found.close()
    return page, False


async def has_trades(session: AsyncSession, flow: Flow) -> bool:
    return bool(await session.scalar(select(exists().where(Trade.flow_pk == flow.id))))


async def trades_without_output(session: AsyncSession, cycle: Cycle) -> Sequence[Trade]:
    """The trades of a cycle whose node tasks did not complete."""
    completed = exists().where(
        NodeTask.flow_pk == Trade.flow_pk,
        NodeTask.cycle == Trade.cycle,
        NodeTask.node_id == Trade.node_id,
        NodeTask.status == "completed",
    )
    statement = select(Trade).where(Trade.flow_pk == cycle.flow_pk, Trade.cycle == cycle.cycle, ~completed)
    return (await session.scalars(statement.order_by(Trade.node_id))).all()
