"""Contract events become trigger events of the flows that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.errors import DependencyUnavailable, InvalidInput
from tradingflow.db.engine import SessionFactory
from tradingflow.db.failures import passing_told
from tradingflow.db.models import ChainCursor, Flow, MonitoredContract, Schedule
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.chain_messages import ChainEvent, ChainEventReverted, ChainMessage
from tradingflow.messaging.contract_events import (
    ContractEvents,
    bind_contract_events,
    consume_contract_events,
    keep_bound,
)
from tradingflow.py_worker.scheduler import Scheduler
from tradingflow.py_worker.trigger_events import portions, record_event, take_back


class ContractTriggers:
    def __init__(self, sessions: SessionFactory, broker: Broker, scheduler: Scheduler) -> None:
        self._sessions = sessions
        self._broker = broker
        self._scheduler = scheduler

    async def follow(self, session: AsyncSession, trigger: dict[str, Any]) -> None:
        """Subscribe to what a flow waits for, before the flow runs: an event in between would be lost.

        Raises InvalidInput when the Monitor does not follow the contract, or not yet the chain: such a flow would wait
        for ever, or take all that ever happened for news.
        """
        wanted = _wanted(trigger)
        if wanted is None:
            return
        contract = await session.get(MonitoredContract, (wanted.chain_id, wanted.address))
        if contract is None or await session.get(ChainCursor, wanted.chain_id) is None:
            raise InvalidInput(
                "contract_not_monitored",
                f"the Monitor does not follow {wanted.address} on chain {wanted.chain_id}; add it there first",
            )
        await bind_contract_events(self._broker, [wanted])

    async def run(self) -> None:
        """Record events until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_bound(self._broker, self._all_wanted))
            group.create_task(consume_contract_events(self._broker, self._record))

    async def _all_wanted(self) -> set[ContractEvents]:
        statement = select(Schedule.trigger).join(Flow, Flow.id == Schedule.flow_pk)
        running = statement.where(Schedule.trigger.has_key("address"), Flow.status != "stopped")
        try:
            async with self._sessions() as session:
                triggers = await session.scalars(running)
                return {found for trigger in triggers if (found := _wanted(trigger)) is not None}
        except (SQLAlchemyError, OSError) as error:
            raise DependencyUnavailable("database_unavailable", "the flows' triggers cannot be read") from error

    async def _record(self, message: ChainMessage, final: bool) -> None:
        if not isinstance(message, (ChainEvent, ChainEventReverted)):
            return
        with passing_told():
            async with self._sessions.begin() as session:
                flows = await _waiting_for(session, message, final)
                if isinstance(message, ChainEventReverted):
                    await take_back(session, message.event_id, flows)
            if isinstance(message, ChainEvent):
                await self._record_for(flows, message)
        self._scheduler.wake()

    async def _record_for(self, flows: Sequence[UUID], event: ChainEvent) -> None:
        """Each portion is kept at once, so that an event that comes again after a failure gets further."""
        payload = msgspec.to_builtins(event)
        for some in portions(flows, len(msgspec.json.encode(payload))):
            async with self._sessions.begin() as session:
                await record_event(session, some, "contract_event", event.event_id, payload)


async def _waiting_for(session: AsyncSession, message: ChainEvent | ChainEventReverted, final: bool) -> Sequence[UUID]:
    names = {"type": "contract_event", "chain_id": message.chain_id, "final": final}
    statement = (
        select(Schedule.flow_pk)
        .join(Flow, Flow.id == Schedule.flow_pk)
        .where(
            Schedule.trigger.has_key("address"),
            Schedule.trigger["address"].astext == message.address,
            Schedule.trigger.contains(names),
            Schedule.trigger.contains({"event": message.name}) | Schedule.trigger.contains({"event": None}),
            Schedule.listens_from_block.is_(None) | (Schedule.listens_from_block <= message.block_number),
            Flow.status != "stopped",
        )
    )
    return (await session.scalars(statement)).all()


def _wanted(trigger: dict[str, Any]) -> ContractEvents | None:
    if trigger["type"] != "contract_event":
        return None
    return ContractEvents(trigger["chain_id"], trigger["address"], trigger["event"], trigger["final"])
