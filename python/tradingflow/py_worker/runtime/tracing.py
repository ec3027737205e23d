"""What a trace tells of a cycle that has ended: one span for it, one for each node task that ran."""

from __future__ import annotations

from collections.abc import Iterator

from tradingflow.py_worker.runtime.live import LiveCycle
from tradingflow.tracing.traces import Ended, Traces


def trace_cycle(traces: Traces, live: LiveCycle) -> None:
    """Tell of a cycle whose ending is committed. Outcomes from before a crash are part of it."""
    if not traces.enabled:
        return
    nodes = list(_node_tasks(live))
    if not nodes:
        return
    flow_pk, cycle = live.key
    began, ended = min(node.started_at for node in nodes), max(node.finished_at for node in nodes)
    attributes: dict[str, str | int] = {
        "tradingflow.flow_id": live.flow_id,
        "tradingflow.cycle": cycle,
        "tradingflow.version": live.version,
        "tradingflow.mode": live.mode,
    }
    traces.cycle(flow_pk, cycle, Ended("cycle", began, ended, live.state.ending, attributes=attributes), nodes)


def _node_tasks(live: LiveCycle) -> Iterator[Ended]:
    for index, outcome in live.state.outcomes.items():
        if outcome.started_at is None or outcome.finished_at is None:
            continue
        node = live.graph.nodes[index]
        code = str(outcome.error["error"]) if outcome.error else None
        attributes: dict[str, str | int] = {"tradingflow.node_type": node.type, "tradingflow.attempt": outcome.attempt}
        yield Ended(node.id, outcome.started_at, outcome.finished_at, outcome.status, code, attributes)
