"""The flows of a load: most only watch the pool, some trade a little through one vault. And what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bench.compose_project import Project
from devstack.anvil import CHAIN_ID
from devstack.main_job.api import Api
from devstack.uniswap import LocalMarket

PERIOD = 5
# Base units: a hundredth of what the vault may sell of each token a day, ten minutes long.
SOLD_BASE = 10**14
SOLD_QUOTE = 10**6
INTERVAL_S = 10


def register_flows(worker: Api, market: LocalMarket, vault: str, *, count: int, trading: int) -> None:
    """`count` flows every ten seconds, the first `trading` of them with a swap at the end."""
    for number in range(count):
        worker.post("/flows/execute", _document(number, market, vault, trades=number < trading))


def _document(number: int, market: LocalMarket, vault: str, *, trades: bool) -> dict[str, Any]:
    nodes = [
        _node("price", "dex_price_node", {"chain_id": CHAIN_ID, "pool": market.pool}),
        _node("average", "indicator_node", {"indicator": "SMA", "params": {"timeperiod": PERIOD}}),
        _node("above", "condition_node", {"expression": "price > average"}),
    ]
    edges = [
        _edge("price", "price", "average", "value"),
        _edge("price", "price", "above", "price"),
        _edge("average", "latest", "above", "average"),
    ]
    if trades:
        nodes.append(_swap(number, market, vault))
        edges.append(_edge("price", "price", "trade", "trigger"))
    document = {"nodes": nodes, "edges": edges}
    return {
        "flow_id": f"load_{number}",
        "cycle_interval": f"{INTERVAL_S}s",
        "mode": "live",
        "overlap": "queue",
        "misfire": "all",
        "flow_json": document,
    }


def _swap(number: int, market: LocalMarket, vault: str) -> dict[str, Any]:
    sells_base = number % 2 == 0
    tokens = (market.base_token, market.quote_token) if sells_base else (market.quote_token, market.base_token)
    config = {
        "chain_id": CHAIN_ID,
        "vault": vault,
        "token_in": tokens[0],
        "token_out": tokens[1],
        "amount": str(SOLD_BASE if sells_base else SOLD_QUOTE),
        "amount_unit": "base_units",
        "slippage_bps": 500,
    }
    return _node("trade", "swap_node", config)


def _node(node_id: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"id": node_id, "type": kind, "config": config}


def _edge(source: str, source_handle: str, target: str, target_handle: str) -> dict[str, Any]:
    return {"source": source, "source_handle": source_handle, "target": target, "target_handle": target_handle}


@dataclass(frozen=True)
class CycleCount:
    """`due` counts the fire times from a flow's first to its last; each should have led to one completed cycle."""

    due: int
    completed: int
    failed: int

    @property
    def lost(self) -> int:
        """Fire times without a completed cycle; failed ones are told apart."""
        return self.due - self.completed - self.failed


def count_cycles(project: Project, until: datetime) -> CycleCount:
    """Over all flows of the load, of the fire times up to `until`; a cycle ended by hand counts as lost."""
    query = f"""
        SELECT sum(due), sum(completed), sum(failed) FROM (
            SELECT 1 + round(extract(epoch FROM max(fire_time) - min(fire_time)) / {INTERVAL_S})::bigint AS due,
                   count(*) FILTER (WHERE cycles.status = 'completed') AS completed,
                   count(*) FILTER (WHERE cycles.status = 'failed') AS failed
            FROM cycles JOIN flows ON flows.id = cycles.flow_pk
            WHERE flows.flow_id LIKE 'load%' AND fire_time <= '{until.isoformat()}' GROUP BY flows.id
        ) AS per_flow"""  # noqa: S608 (numbers and times of ours)
    due, completed, failed = project.rows(query)[0]
    return CycleCount(int(due), int(completed), int(failed))


def open_cycles(project: Project, until: datetime) -> int:
    """Cycles with a fire time up to `until` that have not ended, and flows with one that has not begun: a flow that was
    held up takes its fire times one after the other, with a moment between two."""
    moment = until.isoformat()
    query = f"""
        SELECT (SELECT count(*) FROM cycles WHERE status IN ('pending', 'running') AND fire_time <= '{moment}')
             + (SELECT count(*) FROM schedules JOIN flows ON flows.id = schedules.flow_pk
                WHERE flows.flow_id LIKE 'load%' AND schedules.next_fire_at <= '{moment}')"""  # noqa: S608
    return int(project.rows(query)[0][0])


def open_trades(project: Project) -> int:
    """Trades that are neither completed nor failed."""
    return int(project.rows("SELECT count(*) FROM trades WHERE status NOT IN ('completed', 'failed')")[0][0])


def failures(project: Project) -> list[list[str]]:
    """Why node tasks failed, and how often."""
    query = """SELECT node_id, error->>'error', error->>'detail', count(*) FROM node_tasks
               WHERE status = 'failed' GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 10"""
    return project.rows(query)


def completed_trades(project: Project) -> list[str]:
    """The ids of the trades whose rows say completed."""
    return [row[0] for row in project.rows("SELECT '0x' || encode(id, 'hex') FROM trades WHERE status = 'completed'")]
