"""Where nodes wait for a person. The row is what counts; this only looks at it, for all that wait here at once.

A node that waits has given its slot and its messages back. When its worker dies, the sweep brings the cycle to another
one, whose node asks again, finds its row and goes on waiting until the same moment.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.clock import Clock
from tradingflow.core.errors import DependencyUnavailable, InvalidInput, Refused
from tradingflow.core.logging import get_logger
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Approval, Cycle
from tradingflow.py_worker.kit import Asking
from tradingflow.py_worker.runtime.live import LiveCycle

log = get_logger(__name__)

# How long an answer may take to be noticed: a person does not, and one query serves all that wait.
LOOK_AGAIN_S = 0.5
MAX_OPEN_OF_USER = 1_000
MAX_DETAILS_CHARS = 50_000


@dataclass(frozen=True)
class ApprovalDesk:
    sessions: SessionFactory
    clock: Clock
    _waiting: defaultdict[UUID, set[asyncio.Future[bool]]] = field(default_factory=lambda: defaultdict(set))
    _somebody: asyncio.Event = field(default_factory=asyncio.Event)

    def of_node(self, live: LiveCycle, index: int) -> NodeApprovals:
        return NodeApprovals(self, live, index)

    async def run(self) -> None:
        """Look for answers until cancelled."""
        while True:
            await self._somebody.wait()
            try:
                await self._look()
            except (SQLAlchemyError, OSError, DependencyUnavailable) as error:
                log.warning("looking for answers interrupted", error=error)
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _look(self) -> None:
        for identity, approved in await self._answers(list(self._waiting), self.clock.now()):
            for waiter in self._waiting.get(identity, ()):
                if not waiter.done():
                    waiter.set_result(approved)

    async def _answers(self, waiting: list[UUID], now: datetime) -> list[tuple[UUID, bool]]:
        overdue = update(Approval).where(
            Approval.id.in_(waiting), Approval.status == "pending", Approval.expires_at <= now
        )
        async with self.sessions.begin() as session:
            await session.execute(overdue.values(status="timed_out", answered_at=now))
            ended = select(Approval).where(Approval.id.in_(waiting), Approval.status != "pending")
            return [(row.id, is_approved(row)) for row in await session.scalars(ended)]

    async def answer(self, identity: UUID) -> bool:
        """What was answered, as soon as it is."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[identity].add(waiter)
        self._somebody.set()
        try:
            return await waiter
        finally:
            self._waiting[identity].discard(waiter)
            if not self._waiting[identity]:
                del self._waiting[identity]
            if not self._waiting:
                self._somebody.clear()


def is_approved(approval: Approval) -> bool:
    return approval.status == "approved" or (approval.status == "timed_out" and approval.on_timeout == "approve")


@dataclass(frozen=True)
class NodeApprovals:
    """`kit.Approvals` of one node in one cycle."""

    desk: ApprovalDesk
    live: LiveCycle
    index: int

    async def ask(self, asking: Asking) -> bool:
        """Raises Refused("too_many_approvals", …), InvalidInput for details nobody could read."""
        if len(json.dumps(asking.details)) > MAX_DETAILS_CHARS:
            raise InvalidInput("details_too_large", f"a person is shown at most {MAX_DETAILS_CHARS} characters of JSON")
        async with self.desk.sessions.begin() as session:
            approval = await self._open(session, asking)
        if approval.status != "pending":
            return is_approved(approval)
        if (run := self.live.running.get(self.index)) is not None:
            run.step_aside()
        return await self.desk.answer(approval.id)

    async def _open(self, session: AsyncSession, asking: Asking) -> Approval:
        """The question of this node in this cycle, put by this run or by an earlier one."""
        flow_pk, cycle = self.live.key
        node_id = self.live.graph.nodes[self.index].id
        mine = select(Approval).where(Approval.flow_pk == flow_pk, Approval.cycle == cycle, Approval.node_id == node_id)
        if (known := await session.scalar(mine)) is not None:
            return known
        await self._require_room(session)
        now = self.desk.clock.now()
        row = {
            "id": uuid4(),
            "user_id": self.live.user_id,
            "flow_pk": flow_pk,
            "cycle": cycle,
            "node_id": node_id,
            "question": asking.question,
            "details": asking.details,
            "status": "pending",
            "on_timeout": asking.on_timeout,
            "created_at": now,
            "expires_at": now + asking.timeout,
        }
        await session.execute(insert(Approval).values(row).on_conflict_do_nothing())
        return (await session.scalars(mine)).one()

    async def _require_room(self, session: AsyncSession) -> None:
        open_ = (
            select(func.count())
            .select_from(Approval)
            .join(Cycle, (Cycle.flow_pk == Approval.flow_pk) & (Cycle.cycle == Approval.cycle))
            .where(Approval.user_id == self.live.user_id, Approval.status == "pending", Cycle.status == "running")
        )
        if (await session.scalar(open_) or 0) >= MAX_OPEN_OF_USER:
            raise Refused("too_many_approvals", f"{MAX_OPEN_OF_USER} questions to you are open; answer some first")
