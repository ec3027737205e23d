"""Cycles that run a part of the graph: a rerun from what failed, one node, downstream or upstream of it.

Such a cycle is an ordinary one whose other node tasks are stored as ended before it starts: `completed` with the
outputs it was given (attempt 0: nobody ran them), or `skipped`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.errors import Conflict, InvalidInput
from tradingflow.db.models import Cycle, Flow, NodeTask, Schedule
from tradingflow.py_worker.control import terminate_open_cycles
from tradingflow.py_worker.cycle_starter import CycleStart, open_cycles
from tradingflow.py_worker.engine.graph import Graph
from tradingflow.py_worker.flows import store
from tradingflow.py_worker.kit import MarketData
from tradingflow.py_worker.kit.registry import AnyNode
from tradingflow.py_worker.kit.sizing import TradeOutputs
from tradingflow.py_worker.trade_gateway import receipt_of

Scope = Literal["downstream", "upstream", "node", "component"]
Outputs = Mapping[str, Mapping[str, Any]]


async def start_cycle(
    session: AsyncSession,
    flow: Flow,
    *,
    trigger: str,
    version: int,
    now: datetime,
    partitions: int,
    trigger_data: Any = None,
    rerun_of: int | None = None,
    given: Outputs | None = None,
    left_out: Iterable[str] = (),
) -> Cycle:
    """Open the flow's next cycle now. Raises Conflict while one is open, unless the flow's overlap replaces it."""
    schedule = await store.get_schedule(session, flow, lock=True)
    await _make_room(session, flow, schedule, now)
    number = schedule.next_cycle
    schedule.next_cycle += 1
    start = CycleStart(flow.id, number, version, now, trigger, trigger_data, rerun_of)
    await open_cycles(session, [start], partitions)
    for node_id, outputs in (given or {}).items():
        session.add(_given_task(flow, number, node_id, "completed", dict(outputs), now))
    for node_id in left_out:
        session.add(_given_task(flow, number, node_id, "skipped", {}, now))
    await session.flush()
    return await store.get_cycle(session, flow, number)


async def _make_room(session: AsyncSession, flow: Flow, schedule: Schedule, now: datetime) -> None:
    if await store.count_open_cycles(session, flow):
        if schedule.overlap != "replace":
            raise Conflict("cycle_open", "the flow's last cycle is still open; wait for it or stop it")
        await terminate_open_cycles(session, flow.id, "replaced", now)


def _given_task(flow: Flow, cycle: int, node_id: str, status: str, outputs: dict[str, Any], now: datetime) -> NodeTask:
    return NodeTask(
        flow_pk=flow.id, cycle=cycle, node_id=node_id, status=status, attempt=0, outputs=outputs, finished_at=now
    )


async def completed_outputs(session: AsyncSession, flow: Flow, cycle: int) -> dict[str, dict[str, Any]]:
    """Outputs of the tasks of a cycle that completed, by node."""
    statement = select(NodeTask.node_id, NodeTask.outputs).where(
        NodeTask.flow_pk == flow.id, NodeTask.cycle == cycle, NodeTask.status == "completed"
    )
    return {node_id: outputs or {} for node_id, outputs in await session.execute(statement)}


async def traded_outputs(
    session: AsyncSession, cycle: Cycle, graph: Graph, types: Mapping[str, AnyNode], markets: MarketData
) -> dict[str, dict[str, Any]]:
    """What nodes of an ended cycle would have given for their trades, had they heard of them; failed trades left out.

    A node may end before its trade: by its time-out, by a stop, or because the chain was away. Raises Conflict for a
    trade that may still be mined, and for one whose node gives more than a receipt.
    """
    outputs = {}
    for trade in await store.trades_without_output(session, cycle):
        asked = f"node {trade.node_id!r} asked for trade {trade.id}"
        if trade.status not in ("completed", "failed"):
            raise Conflict(
                "trade_open",
                f"{asked}, which is {trade.status} and may still be mined; rerun the cycle when the trade is completed "
                "or failed, as GET /trades/{trade_id} says: it ends by itself",
            )
        if trade.status == "completed":
            if types[graph.nodes[graph.index[trade.node_id]].type].Outputs is not TradeOutputs:
                raise Conflict(
                    "trade_made",
                    f"{asked}, which was mined, and would trade again; run what comes after it with partial-run, and "
                    "give the node's outputs in `inputs`",
                )
            outputs[trade.node_id] = TradeOutputs(trade_receipt=await receipt_of(trade, markets)).signals()
    return outputs


def _reached(graph: Graph, scope: Scope, root: int) -> set[int]:
    if scope == "downstream":
        return graph.descendants([root])
    if scope == "upstream":
        return graph.ancestors([root])
    if scope == "component":
        return {node.index for node in graph.nodes if node.component == graph.nodes[root].component}
    return {root}


def plan_part(
    graph: Graph, scope: Scope, node_id: str, recorded: Outputs, inputs: Outputs
) -> tuple[dict[str, Mapping[str, Any]], set[str]]:
    """What a partial run is given and what it leaves out. Raises InvalidInput naming a node without known outputs."""
    if node_id not in graph.index:
        raise InvalidInput("unknown_node", f"the flow has no node {node_id!r}")
    root = graph.index[node_id]
    runs = _reached(graph, scope, root)
    feeding = {edge.source for index in runs for edge in graph.nodes[index].incoming} - runs
    given: dict[str, Mapping[str, Any]] = {}
    for index in feeding:
        name = graph.nodes[index].id
        outputs = inputs.get(name, recorded.get(name))
        if outputs is None:
            raise InvalidInput("no_recorded_output", f"node {name!r} has no recorded output; give it in `inputs`")
        given[name] = outputs
    left_out = {node.id for node in graph.nodes if node.index not in runs and node.id not in given}
    return given, left_out
