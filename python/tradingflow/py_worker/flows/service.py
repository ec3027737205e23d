"""What the flow routes do. The caller opens and commits the transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.errors import Conflict
from tradingflow.db.cursors import next_block
from tradingflow.db.models import Cycle, Flow, FlowVersion, Schedule
from tradingflow.py_worker.control import tell_workers, terminate_open_cycles
from tradingflow.py_worker.cycle_starter import announce
from tradingflow.py_worker.engine.interval import Cron, interval_text, parse_interval
from tradingflow.py_worker.flows import store
from tradingflow.py_worker.flows.schemas import FlowRequest
from tradingflow.py_worker.flows.triggers import judge_trigger
from tradingflow.py_worker.trigger_events import STOPPED, TRIGGER_CHANGED, skip_pending


@dataclass(frozen=True)
class FlowService:
    """Acts for `user_id` at `now`. A flow's schedule row is locked before anything of the flow changes."""

    session: AsyncSession
    user_id: UUID
    now: datetime
    partitions: int

    async def execute(self, request: FlowRequest) -> tuple[Flow, Schedule]:
        """Create the flow, or give it a new version when its graph changed, and let it run from now on."""
        flow, schedule = await self.revise(request)
        await self._run(flow, schedule)
        return flow, schedule

    async def revise(self, request: FlowRequest) -> tuple[Flow, Schedule]:
        """Store what the request says without changing whether the flow runs."""
        trigger, interval = judge_trigger(request.cycle_interval, request.trigger), _interval_of(request)
        flow = await self._create_or_lock(request.flow_id, request.mode, interval, trigger)
        schedule = await store.get_schedule(self.session, flow, lock=True)
        await self._revise(flow, request.flow_json)
        flow.mode = request.mode
        await self._revise_schedule(flow, schedule, interval, trigger)
        flow.shadow_bound_bps = request.shadow_bound_bps
        schedule.overlap = request.overlap
        schedule.misfire = request.misfire
        await self.session.flush()
        return flow, schedule

    async def _revise_schedule(
        self, flow: Flow, schedule: Schedule, interval: str | None, trigger: dict[str, Any]
    ) -> None:
        """What runs follows the new interval from now on; what does not is left to `start`. Events of the trigger
        before start nothing any more."""
        if trigger != schedule.trigger:
            await skip_pending(self.session, flow.id, TRIGGER_CHANGED)
            schedule.trigger = trigger
            await self._listen_from_now(schedule)
        if interval is None:
            schedule.next_fire_at = None
        elif interval != schedule.cycle_interval and flow.status != "stopped":
            schedule.next_fire_at = parse_interval(interval).step(self.now)
        schedule.cycle_interval = interval

    async def create_by_hand(self, flow_id: str) -> Flow:
        """A flow that has no graph yet and starts by request only, locked."""
        return await self._create_or_lock(flow_id, "live", None, {"type": "manual"})

    async def delete(self, flow: Flow) -> None:
        """Raises Conflict while the flow may run, or for good when it traded: trade history is not deleted."""
        await store.get_schedule(self.session, flow, lock=True)
        if flow.status != "stopped":
            raise Conflict("flow_not_stopped", f"only a stopped flow can be deleted; this one is {flow.status}")
        if await store.has_trades(self.session, flow):
            raise Conflict("flow_has_trades", "a flow that traded stays, so that its trades stay explained")
        await self.session.delete(flow)

    async def start(self, flow: Flow) -> Schedule:
        """Let the flow run from now on; a paused one goes on, a running one is left as it is."""
        schedule = await store.get_schedule(self.session, flow, lock=True)
        if flow.status == "paused":
            return await self.resume(flow)
        if flow.status == "stopped":
            await self._run(flow, schedule)
        return schedule

    async def stop(self, flow: Flow) -> Schedule:
        """No cycle starts any more, and the open ones end as terminated now."""
        schedule = await store.get_schedule(self.session, flow, lock=True)
        schedule.next_fire_at = None
        flow.status = "stopped"
        await skip_pending(self.session, flow.id, STOPPED)
        await terminate_open_cycles(self.session, flow.id, STOPPED, self.now)
        await tell_workers(self.session, flow.id)
        return schedule

    async def pause(self, flow: Flow) -> Schedule:
        """No cycle and no node starts any more; nodes that run end. Raises Conflict for a stopped flow."""
        schedule = await store.get_schedule(self.session, flow, lock=True)
        if flow.status == "stopped":
            raise Conflict("flow_not_running", "only a running flow can be paused; this one is stopped")
        flow.status = "paused"
        await tell_workers(self.session, flow.id)
        return schedule

    async def resume(self, flow: Flow) -> Schedule:
        """Go on where the pause held. Raises Conflict for a stopped flow."""
        schedule = await store.get_schedule(self.session, flow, lock=True)
        if flow.status == "stopped":
            raise Conflict("flow_not_paused", "only a paused flow can be resumed; start this one")
        flow.status = "running"
        await self._go_on(flow)
        return schedule

    async def pause_nodes(self, flow: Flow, nodes: Iterable[str]) -> None:
        """These nodes start in no cycle until they are resumed; those that run end, and the others go on."""
        await store.get_schedule(self.session, flow, lock=True)
        flow.paused_nodes = sorted({*flow.paused_nodes, *nodes})
        await tell_workers(self.session, flow.id)

    async def resume_nodes(self, flow: Flow, nodes: Iterable[str]) -> None:
        await store.get_schedule(self.session, flow, lock=True)
        flow.paused_nodes = sorted(set(flow.paused_nodes) - set(nodes))
        await self._go_on(flow)

    async def _go_on(self, flow: Flow) -> None:
        await tell_workers(self.session, flow.id)
        open_ = select(Cycle.cycle).where(Cycle.flow_pk == flow.id, Cycle.status == "running")
        cycles = (await self.session.scalars(open_)).all()
        await announce(self.session, [(flow.id, cycle) for cycle in cycles], self.partitions)

    async def _run(self, flow: Flow, schedule: Schedule) -> None:
        if flow.status == "stopped":
            # An event may have been recorded while the stop was being committed.
            await skip_pending(self.session, flow.id, STOPPED)
            await self._listen_from_now(schedule)
        flow.status = "running"
        if schedule.cycle_interval is not None:
            interval = parse_interval(schedule.cycle_interval)
            schedule.next_fire_at = interval.step(self.now) if isinstance(interval, Cron) else self.now
        await self.session.flush()

    async def _listen_from_now(self, schedule: Schedule) -> None:
        """What the Monitor has stored by now is the past, whenever it is told: a contract's past is read later than
        its newest events, and events are decoded, or read, again."""
        chain_id = schedule.trigger.get("chain_id")
        schedule.listens_from_block = None if chain_id is None else await next_block(self.session, chain_id)

    async def _create_or_lock(self, flow_id: str, mode: str, interval: str | None, trigger: dict[str, Any]) -> Flow:
        """Two requests that create the same flow at once take turns on its row."""
        flow_pk = uuid4()
        values = {
            "id": flow_pk,
            "user_id": self.user_id,
            "flow_id": flow_id,
            "status": "stopped",
            "mode": mode,
            "current_version": 0,
        }
        created = await self.session.scalar(insert(Flow).values(values).on_conflict_do_nothing().returning(Flow.id))
        if created is not None:
            self.session.add(Schedule(flow_pk=flow_pk, trigger=trigger, cycle_interval=interval, next_cycle=0))
            await self.session.flush()
        return await store.get_flow(self.session, self.user_id, flow_id, lock=True)

    async def _revise(self, flow: Flow, graph: dict[str, Any]) -> None:
        """Versions are immutable: another graph is another version, and running cycles finish on theirs."""
        current = await self.session.get(FlowVersion, (flow.id, flow.current_version))
        if current is None or current.graph != graph:
            flow.current_version = await self.add_version(flow, graph)

    async def add_version(self, flow: Flow, graph: dict[str, Any]) -> int:
        """Store a graph under the next number, which is not the current version by that alone."""
        latest = await self.session.scalar(select(func.max(FlowVersion.version)).where(FlowVersion.flow_pk == flow.id))
        version = (latest or 0) + 1
        self.session.add(FlowVersion(flow_pk=flow.id, version=version, graph=graph))
        await self.session.flush()
        return version


def _interval_of(request: FlowRequest) -> str | None:
    return None if request.cycle_interval is None else interval_text(request.cycle_interval)
