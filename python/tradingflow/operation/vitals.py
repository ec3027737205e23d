"""What an operator watches, read from the tables: the doctor judges it, the exporter publishes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from tradingflow.db.models import ChainCursor, Cycle, DeadLetter, OutboxMessage, Schedule, Trade
from tradingflow.db.schedules import is_due


@dataclass(frozen=True)
class Backlog:
    """How many there are, and the age of the oldest in seconds (0 when there is none)."""

    count: int
    oldest_s: float


@dataclass(frozen=True)
class ChainProgress:
    """`next_block` is the first not stored; `idle_s` the time since the Monitor last moved."""

    chain_id: int
    next_block: int
    halted_reason: str | None
    idle_s: float


@dataclass(frozen=True)
class Vitals:
    """One reading. Ages are measured by the database's clock."""

    database_time: datetime
    connections: int
    max_connections: int
    is_read_only: bool
    outbox: dict[str, Backlog]
    unsettled_trades: Backlog
    late_schedules: Backlog
    open_cycles: Backlog
    dead_letters: int
    chains: tuple[ChainProgress, ...]


async def read_vitals(connection: AsyncConnection) -> Vitals:
    """Every figure in a handful of index scans; safe to ask every few seconds."""
    used, allowed, read_only, now = (await connection.execute(_SERVER)).one()
    return Vitals(
        database_time=now,
        connections=used,
        max_connections=allowed,
        is_read_only=read_only,
        outbox=await _outbox(connection),
        unsettled_trades=await _backlog(
            connection, _ages(Trade.created_at).where(Trade.status.in_(("requested", "submitted")))
        ),
        late_schedules=await _backlog(connection, _ages(Schedule.next_fire_at).where(is_due(func.clock_timestamp()))),
        open_cycles=await _backlog(connection, _ages(Cycle.started_at).where(Cycle.status == "running")),
        dead_letters=await connection.scalar(
            select(func.count()).select_from(DeadLetter).where(DeadLetter.status == "dead")
        )
        or 0,
        chains=await _chains(connection),
    )


_SERVER = text(
    "SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
    " current_setting('max_connections')::int,"
    " pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,"
    " clock_timestamp()"
)


def _age_s(moment: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.extract("epoch", func.clock_timestamp() - func.min(moment)), 0)


def _ages(moment: InstrumentedAttribute[Any]) -> Select[Any]:
    return select(func.count(), _age_s(moment))


async def _backlog(connection: AsyncConnection, statement: Select[Any]) -> Backlog:
    count, oldest_s = (await connection.execute(statement)).one()
    return Backlog(count, max(0.0, float(oldest_s)))


async def _outbox(connection: AsyncConnection) -> dict[str, Backlog]:
    statement = select(OutboxMessage.lane, func.count(), _age_s(OutboxMessage.created_at)).group_by(OutboxMessage.lane)
    rows = await connection.execute(statement)
    return {lane: Backlog(count, float(oldest_s)) for lane, count, oldest_s in rows}


async def _chains(connection: AsyncConnection) -> tuple[ChainProgress, ...]:
    idle_s = func.extract("epoch", func.clock_timestamp() - ChainCursor.updated_at)
    rows = await connection.execute(
        select(ChainCursor.chain_id, ChainCursor.next_block, ChainCursor.halted_reason, idle_s)
    )
    return tuple(ChainProgress(chain, block, halted, float(idle)) for chain, block, halted, idle in rows)
