"""One node by itself, one component by itself, and pausing them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from tests.integration.worker.conftest import Client, tasks_by_node, until
from tests.integration.worker.nodes import edge, node
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import FlowVersion


def request(flow_id: str, **more: Any) -> dict[str, Any]:
    legacy = {"component_id": 0, "cycle": 0, "node_id": "n", "node_type": "emit", "config": {"value": 7}}
    return {"flow_id": flow_id, **legacy, "input_edges": [], "output_edges": [], **more}


async def test_a_node_runs_by_itself_and_its_task_can_be_watched(client: Client) -> None:
    task = await client.ok("POST", "/nodes/execute", request("alone"))
    assert task == {"id": "alone_0_n", "flow_id": "alone", "cycle": 0, "node_id": "n", "status": "pending"}
    cycle = await client.cycle_end("alone")
    assert (cycle["trigger"], cycle["status"]) == ("node", "completed")
    assert tasks_by_node(cycle)["n"]["outputs"] == {"value": 7}
    assert (await client.ok("GET", "/nodes/alone_0_n/status"))["status"] == "completed"
    assert (await client.ok("GET", "/flows/alone"))["status"] == "stopped"


async def test_a_node_is_fed_with_what_a_cycle_recorded(client: Client) -> None:
    await client.execute("fed", [node("a", "emit", {"value": 5})], [])
    await client.cycle_end("fed")
    into = {"source": "a", "sourceHandle": "value", "target": "n", "targetHandle": "value"}
    body = request("fed", node_type="add", config={"value": 2}, cycle=0, input_edges=[into])
    task = await client.ok("POST", "/nodes/execute", body)
    cycle = await client.cycle_end("fed", task["cycle"])
    assert tasks_by_node(cycle)["n"]["outputs"] == {"value": 7.0}
    # The flow's own graph stays what it was, and its next edit gets a number of its own.
    assert (await client.ok("GET", "/flows/fed"))["version"] == 1
    await client.execute("fed", [node("a", "emit", {"value": 6})], [])
    assert (await client.ok("GET", "/flows/fed"))["version"] == 3


async def test_many_values_reach_a_handle_that_takes_many(client: Client) -> None:
    await client.execute("many", [node("a", "emit", {"value": 1}), node("b", "emit", {"value": 2})], [])
    await client.cycle_end("many")
    edges = [edge(source, "n", "value", "values") for source in ("a", "b")]
    task = await client.ok("POST", "/nodes/execute", request("many", node_type="gather", config={}, input_edges=edges))
    cycle = await client.cycle_end("many", task["cycle"])
    assert tasks_by_node(cycle)["n"]["outputs"] == {"value": [1, 2]}


async def test_a_node_that_cannot_run_is_a_422_or_409_and_leaves_nothing(
    client: Client, sessions: SessionFactory
) -> None:
    for body, code in (
        (request("no", node_type="unheard_of"), "unknown_node_type"),
        (request("no", config={"nonsense": 1}), "invalid_config"),
        (request("no", node_type="add", config={}), "input_open"),
        (request("no", input_edges=[edge("a", "n")]), "no_recorded_output"),
        (request("no", input_edges=[edge("a", "other")]), "invalid_edge"),
        (request("no", output_edges=[edge("a", "other")]), "invalid_edge"),
        (request("no", cycle=3), "unexpected_cycle"),
    ):
        answer = await client.post("/nodes/execute", body)
        assert (answer.status_code in (409, 422), answer.json()["error"]) == (True, code), answer.text
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(FlowVersion)) == 0


TWO_PARTS = [node("a", "emit"), node("b", "pass"), node("x", "emit"), node("y", "pass")]
EDGES = [edge("a", "b"), edge("x", "y")]


async def test_a_paused_node_waits_while_the_rest_goes_on(client: Client) -> None:
    await client.execute("held", TWO_PARTS, EDGES, cycle_interval=None, trigger={"type": "manual"})
    assert (await client.ok("POST", "/flows/held/nodes/b/pause"))["paused_nodes"] == ["b"]
    await client.ok("POST", "/flows/held/cycles")
    await until(lambda: _completed(client, "held", {"a", "x", "y"}))
    assert (await client.ok("GET", "/flows/held/cycles/0"))["status"] == "running"
    assert (await client.ok("POST", "/flows/held/nodes/b/resume"))["paused_nodes"] == []
    assert (await client.cycle_end("held"))["status"] == "completed"


async def test_a_paused_component_waits_while_the_other_goes_on(client: Client) -> None:
    await client.execute("parts", TWO_PARTS, EDGES, cycle_interval=None, trigger={"type": "manual"})
    assert (await client.ok("POST", "/flows/parts/components/1/pause"))["paused_nodes"] == ["x", "y"]
    await client.ok("POST", "/flows/parts/cycles")
    await until(lambda: _completed(client, "parts", {"a", "b"}))
    await client.ok("POST", "/flows/parts/components/1/resume")
    cycle = await client.cycle_end("parts")
    assert {task["status"] for task in cycle["node_tasks"]} == {"completed"}


async def test_a_cycle_with_a_paused_node_can_be_stopped(client: Client) -> None:
    await client.execute("dropped", TWO_PARTS, EDGES, cycle_interval=None, trigger={"type": "manual"})
    await client.ok("POST", "/flows/dropped/nodes/b/pause")
    await client.ok("POST", "/flows/dropped/cycles")
    await until(lambda: _completed(client, "dropped", {"a", "x", "y"}))
    await client.ok("POST", "/nodes/dropped_0_b/stop")
    assert tasks_by_node(await client.cycle_end("dropped"))["b"]["status"] == "terminated"


async def test_what_a_flow_has_not_cannot_be_paused(client: Client) -> None:
    await client.execute("small", [node("a", "emit")], [])
    assert (await client.post("/flows/small/nodes/z/pause")).status_code == 404
    assert (await client.post("/flows/small/components/1/pause")).status_code == 404


async def test_one_component_runs_by_itself(client: Client) -> None:
    await client.execute("split", TWO_PARTS, EDGES, cycle_interval=None, trigger={"type": "manual"})
    run = await client.ok("POST", "/flows/split/partial-run", {"scope": "component", "node_id": "y"})
    cycle = await client.cycle_end("split", run["cycle"])
    statuses = {name: task["status"] for name, task in tasks_by_node(cycle).items()}
    assert statuses == {"a": "skipped", "b": "skipped", "x": "completed", "y": "completed"}


async def _completed(client: Client, flow_id: str, nodes: set[str]) -> bool:
    answer = await client.get(f"/flows/{flow_id}/cycles/0")
    if not answer.is_success:
        return False
    return {name for name, task in tasks_by_node(answer.json()).items() if task["status"] == "completed"} == nodes
