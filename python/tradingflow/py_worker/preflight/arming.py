"""The gate that keeps a flow from going live when its trades would certainly revert."""

from __future__ import annotations

from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.errors import DependencyUnavailable, Refused
from tradingflow.core.logging import get_logger
from tradingflow.db.models import Flow
from tradingflow.py_worker.engine.graph import Graph, build_graph
from tradingflow.py_worker.engine.interval import parse_interval
from tradingflow.py_worker.flows import store as flows
from tradingflow.py_worker.flows.schemas import FlowRequest
from tradingflow.py_worker.parts import Parts
from tradingflow.py_worker.preflight import store
from tradingflow.py_worker.preflight.service import Judgement, Subject

log = get_logger(__name__)


async def require_armable(owner: UUID, request: FlowRequest, graph: Graph, parts: Parts) -> None:
    """Raises Refused `preflight_failed` when a trade of the requested flow would certainly revert as things stand.

    A chain that cannot be asked keeps nobody from starting: then nothing is certain.
    """
    if request.mode != "live" or not parts.preflight.trades(graph):
        return
    async with parts.sessions() as session:
        subject = Subject(
            flow_pk=uuid4(),  # it names trades that will never be made
            graph=graph,
            interval=None if request.cycle_interval is None else parse_interval(request.cycle_interval),
            vaults=await store.vaults_of(session, owner),
            operators=await store.operators(session),
            tried_nodes=frozenset(),
        )
    await _require(subject, owner, request.flow_id, parts)


async def require_stored_armable(owner: UUID, flow_id: str, parts: Parts) -> tuple[int, str]:
    """The same for a stored flow; returns the version and the mode that were judged, which may change meanwhile."""
    async with parts.sessions() as session:
        flow = await flows.get_flow(session, owner, flow_id)
        subject = await _subject(session, flow, parts)
    if flow.mode == "live" and parts.preflight.trades(subject.graph):
        await _require(subject, owner, flow_id, parts)
    return flow.current_version, flow.mode


async def judge(owner: UUID, flow_id: str, parts: Parts) -> Judgement:
    """Raises DependencyUnavailable when a chain does not answer, TooManyRequests."""
    with parts.preflights.place(owner):
        async with parts.sessions() as session:
            subject = await _subject(session, await flows.get_flow(session, owner, flow_id), parts)
        # No connection of the database is held while chains are asked.
        return await parts.preflight.judge(subject, parts.clock.now())


async def _require(subject: Subject, owner: UUID, flow_id: str, parts: Parts) -> None:
    try:
        with parts.preflights.place(owner):
            judgement = await parts.preflight.judge(subject, parts.clock.now())
    except DependencyUnavailable as error:
        log.warning("flow started without a preflight", flow_id=flow_id, code=error.code)
        return
    if blocked := judgement.blocked:
        reasons = "; ".join(f"{finding.node_id or 'flow'}: {finding.code}, {finding.detail}" for finding in blocked)
        raise Refused("preflight_failed", f"its trades would revert now, so it is not started: {reasons}")


async def _subject(session: AsyncSession, flow: Flow, parts: Parts) -> Subject:
    version = await flows.get_version(session, flow, flow.current_version)
    schedule = await flows.get_schedule(session, flow)
    return Subject(
        flow_pk=flow.id,
        graph=build_graph(version.graph, parts.specs),
        interval=None if schedule.cycle_interval is None else parse_interval(schedule.cycle_interval),
        vaults=await store.vaults_of(session, flow.user_id),
        operators=await store.operators(session),
        tried_nodes=await store.tried_nodes(session, flow),
    )
