"""The gate that keeps a flow from going live when its trades would certainly revert."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.errors import DependencyUnavailable, Refused
from tradingflow.core.logging import get_logger
from tradingflow.db.models import Flow
from tradingflow.py_worker.engine.graph import build_graph
from tradingflow.py_worker.engine.interval import parse_interval
from tradingflow.py_worker.flows import store as flows
from tradingflow.py_worker.parts import Parts
from tradingflow.py_worker.preflight import store
from tradingflow.py_worker.preflight.service import Judgement, Subject

log = get_logger(__name__)


async def require_armable(flow: Flow, session: AsyncSession, parts: Parts) -> None:
    """Raises Refused `preflight_failed` when a trade of the flow would certainly revert as things stand.

    A chain that cannot be asked keeps nobody from starting: then nothing is certain.
    """
    subject = await _subject(session, flow, parts)
    if flow.mode != "live" or not parts.preflight.trades(subject.graph):
        return
    try:
        judgement = await parts.preflight.judge(subject, parts.clock.now())
    except DependencyUnavailable as error:
        log.warning("flow started without a preflight", flow_id=flow.flow_id, code=error.code)
        return
    if blocked := judgement.blocked:
        reasons = "; ".join(f"{finding.node_id or 'flow'}: {finding.code}, {finding.detail}" for finding in blocked)
        raise Refused("preflight_failed", f"its trades would revert now, so it is not started: {reasons}")


async def judge(flow: Flow, session: AsyncSession, parts: Parts) -> Judgement:
    """Raises DependencyUnavailable when a chain does not answer."""
    return await parts.preflight.judge(await _subject(session, flow, parts), parts.clock.now())


async def _subject(session: AsyncSession, flow: Flow, parts: Parts) -> Subject:
    version = await flows.get_version(session, flow, flow.current_version)
    schedule = await flows.get_schedule(session, flow)
    return Subject(
        flow_pk=flow.id,
        graph=build_graph(version.graph, parts.specs),
        interval=None if schedule.cycle_interval is None else parse_interval(schedule.cycle_interval),
        vaults=await store.vaults_of(session, flow),
        operators=await store.operators(session),
        tried_nodes=await store.tried_nodes(session, flow),
    )
