"""Due schedules of many flows: those that wait take nobody's turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.worker.conftest import Client, until
from tests.integration.worker.nodes import node
from tradingflow.py_worker import scheduler

FLOW = [node("a", "emit")]
GRAPH = {"nodes": FLOW, "edges": []}
FEW = 3
# Claimed in vain, FEW flows that run once, or FEW that say it in other ways, would fill every batch.
WAITING: list[dict[str, Any]] = [
    *({"cycle_interval": "0"} for _ in range(FEW)),
    *({"cycle_interval": written} for written in ("0s", "0.0", "\u0660")),
    {"cycle_interval": 0, "overlap": "queue"},
    {"cycle_interval": 0, "misfire": "all"},
    {"cycle_interval": "1s", "overlap": "queue"},
    {"cycle_interval": "1s", "misfire": "all"},
]


async def _open(client: Client, flow_id: str) -> bool:
    return bool((await client.ok("GET", f"/flows/{flow_id}/status"))["open_cycles"] == 1)


async def test_flows_that_wait_for_their_open_cycle_hold_up_no_other_and_fire_once_it_ends(
    client: Client, add_user: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "BATCH", FEW)
    flows = {f"waits{number}": how for number, how in enumerate(WAITING)}
    for flow_id, how in flows.items():
        await client.ok("PUT", f"/flows/{flow_id}", {"flow_id": flow_id, "flow_json": GRAPH, **how})
        await client.ok("POST", f"/flows/{flow_id}/nodes/a/pause")
        for _ in range(2):
            await client.execute(flow_id, FLOW, [], **how)
            await until(lambda flow_id=flow_id: _open(client, flow_id))  # type: ignore[misc]
    other = Client(client.http, await add_user())
    await other.execute("victim", FLOW, [])
    assert (await other.cycle_end("victim"))["status"] == "completed"
    for flow_id in flows:
        assert await _open(client, flow_id)
        await client.ok("POST", f"/flows/{flow_id}/nodes/a/resume")
        for cycle in range(2):
            assert (await client.cycle_end(flow_id, cycle))["status"] == "completed"
        await client.ok("POST", f"/flows/{flow_id}/stop")
