"""The flow routes: what is refused and how, who may see what, and what control does."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.worker.conftest import Client, tasks_by_node, until
from tests.integration.worker.nodes import Sleep, edge, node
from tradingflow.py_worker.flows import store

GRAPH = {"nodes": [node("a", "emit"), node("b", "add")], "edges": [edge("a", "b")]}


def request(**changes: Any) -> dict[str, Any]:
    return {"flow_id": "f", "cycle_interval": 0, "flow_json": GRAPH, **changes}


async def test_a_valid_flow_is_told_its_size(client: Client) -> None:
    answer = await client.post("/flows/validate", request())
    assert answer.json() == {"valid": True, "nodes": 2, "edges": 1, "components": 1}
    assert (await client.get("/flows/f")).status_code == 404


@pytest.mark.parametrize("route", ["/flows/validate", "/flows/execute"])
async def test_a_type_that_does_not_fit_is_a_422_that_names_node_and_handle(client: Client, route: str) -> None:
    graph = {"nodes": [node("a", "say"), node("b", "add")], "edges": [edge("a", "b", "text")]}
    answer = await client.post(route, request(flow_json=graph))
    assert answer.status_code == 422
    assert answer.json()["error"] == "kind_mismatch"
    assert "node 'b', handle 'value'" in answer.json()["detail"]


@pytest.mark.parametrize(
    "changes",
    [
        {"cycle_interval": "soon"},
        {"cycle_interval": None},
        {"flow_id": "has space"},
        {"flow_id": ""},
        {"mode": "imaginary"},
        {"overlap": "maybe"},
        {"flow_json": {"nodes": []}},
        {"flow_json": "text"},
    ],
)
async def test_a_bad_request_is_a_422_with_code_and_detail(client: Client, changes: dict[str, Any]) -> None:
    answer = await client.post("/flows/execute", request(**changes))
    assert answer.status_code == 422
    assert set(answer.json()) == {"error", "detail"}


@pytest.mark.parametrize("interval", [True, False, "soon", "1" * 5_000 + " * * * * UTC", "1" * 5_000])
@pytest.mark.parametrize("route", ["/flows/validate", "/flows/execute"])
async def test_what_is_no_interval_is_a_422_that_says_what_is(client: Client, route: str, interval: Any) -> None:
    answer = await client.post(route, request(cycle_interval=interval))
    assert answer.status_code == 422, answer.text
    assert "cycle_interval" in answer.json()["detail"]
    assert (await client.get("/flows/f")).status_code == 404


async def test_a_flow_of_somebody_else_does_not_exist(client: Client, stranger: Client) -> None:
    await client.execute("mine", GRAPH["nodes"], GRAPH["edges"])
    await client.cycle_end("mine")
    for path in ("", "/status", "/cycles", "/cycles/0", "/logs"):
        assert (await stranger.get(f"/flows/mine{path}")).status_code == 404
    for action in ("start", "stop", "pause", "resume"):
        assert (await stranger.post(f"/flows/mine/{action}")).status_code == 404
    assert (await stranger.get("/flows")).json()["items"] == []


async def test_the_same_flow_id_of_two_users_is_two_flows(client: Client, stranger: Client) -> None:
    await client.execute("shared", [node("a", "emit", {"value": "mine"})], [])
    await stranger.execute("shared", [node("a", "emit", {"value": "yours"})], [])
    mine = tasks_by_node(await client.cycle_end("shared"))
    yours = tasks_by_node(await stranger.cycle_end("shared"))
    assert (mine["a"]["outputs"]["value"], yours["a"]["outputs"]["value"]) == ("mine", "yours")


async def test_without_a_token_there_is_nothing_to_see(client: Client) -> None:
    assert (await client.http.get("/flows")).status_code == 401
    assert (await client.http.post("/flows/execute", json=request())).status_code == 401


async def test_another_graph_is_another_version_and_the_same_one_is_not(client: Client) -> None:
    assert (await client.execute("v", [node("a", "emit", {"value": 1})], []))["version"] == 1
    assert (await client.execute("v", [node("a", "emit", {"value": 1})], []))["version"] == 1
    assert (await client.execute("v", [node("a", "emit", {"value": 2})], []))["version"] == 2
    await until(lambda: _has_version(client, "v", 2))


async def test_a_page_of_versions_ends_where_their_graphs_grow_too_large(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five hundred graphs of a megabyte would end the worker."""
    for value in "abc":
        body = request(flow_id="v", flow_json={"nodes": [node("a", "emit", {"value": value * 600})], "edges": []})
        await client.ok("PUT", "/flows/v", body)
    monkeypatch.setattr(store, "MAX_PAGE_CHARS", 1_000)
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await client.get("/flows/v/versions", limit=500, **cursor)).json()
        assert len(page["items"]) == 1
        found += [(v["version"], v["flow_json"]["nodes"][0]["config"]["value"][0]) for v in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == [(3, "c"), (2, "b"), (1, "a")]
    monkeypatch.setattr(store, "MAX_PAGE_CHARS", 1_900)
    assert [v["version"] for v in (await client.ok("GET", "/flows/v/versions"))["items"]] == [3, 2]


async def _has_version(client: Client, flow_id: str, version: int) -> bool:
    items = (await client.get(f"/flows/{flow_id}/cycles")).json()["items"]
    return any(cycle["version"] == version for cycle in items)


async def test_stop_cancels_the_running_node_and_marks_what_had_not_ended(client: Client) -> None:
    nodes = [node("a", "emit"), node("slow", "sleep", {"seconds": 60}), node("after", "pass")]
    await client.execute("stopped", nodes, [edge("a", "slow"), edge("slow", "after")])
    await until(lambda: _started(client, "stopped"))
    # The node behind it may start before this one's end is committed; a stop in between would terminate both.
    await until(lambda: _is_completed(client, "stopped", "a"))
    await client.ok("POST", "/flows/stopped/stop")
    cycle = await client.cycle_end("stopped")
    statuses = {name: task["status"] for name, task in tasks_by_node(cycle).items()}
    assert cycle["status"] == "terminated"
    assert statuses == {"a": "completed", "slow": "terminated", "after": "terminated"}
    await until(lambda: _cancelled("stopped"), deadline_s=1.0)


async def _started(client: Client, flow_id: str) -> bool:
    return any(f"{flow_id}_0_slow" in key for key in Sleep.started)


async def _is_completed(client: Client, flow_id: str, node_id: str) -> bool:
    cycle = (await client.get(f"/flows/{flow_id}/cycles/0")).json()
    return bool(tasks_by_node(cycle).get(node_id, {}).get("status") == "completed")


async def _cancelled(flow_id: str) -> bool:
    return any(f"{flow_id}_0_slow" in key for key in Sleep.cancelled)


async def test_a_paused_flow_starts_no_node_until_it_is_resumed(client: Client) -> None:
    nodes = [node("slow", "sleep", {"seconds": 0.5}), node("after", "pass")]
    await client.execute("paused", nodes, [edge("slow", "after")])
    await until(lambda: _started(client, "paused"))
    assert (await client.ok("POST", "/flows/paused/pause"))["status"] == "paused"

    async def slow_ended() -> bool:
        cycle = (await client.get("/flows/paused/cycles/0")).json()
        return {t["node_id"]: t["status"] for t in cycle["node_tasks"]} == {"slow": "completed"}

    await until(slow_ended)
    assert (await client.get("/flows/paused/status")).json()["open_cycles"] == 1
    await client.ok("POST", "/flows/paused/resume")
    assert (await client.cycle_end("paused"))["status"] == "completed"


async def test_a_stopped_flow_can_neither_be_paused_nor_resumed_but_started(client: Client) -> None:
    await client.execute("s", [node("a", "emit")], [])
    await client.cycle_end("s")
    await client.ok("POST", "/flows/s/stop")
    for action in ("pause", "resume"):
        assert (await client.post(f"/flows/s/{action}")).status_code == 409
    assert (await client.ok("POST", "/flows/s/start"))["status"] == "running"
    assert (await client.cycle_end("s", 1))["status"] == "completed"


async def test_pages_of_cycles_and_flows_hang_together(client: Client) -> None:
    for name in ("p1", "p2", "p3"):
        await client.execute(name, [node("a", "emit")], [])
    first = (await client.get("/flows", limit=2)).json()
    second = (await client.get("/flows", limit=2, cursor=first["next_cursor"])).json()
    assert [f["flow_id"] for f in first["items"] + second["items"]] == ["p1", "p2", "p3"]
    assert second["next_cursor"] is None
    assert (await client.get("/flows", cursor="nonsense")).status_code == 422


async def test_one_cycle_at_a_time_unless_overlap_says_otherwise(client: Client) -> None:
    slow = [node("slow", "sleep", {"seconds": 1})]
    await client.execute("skipping", slow, [], cycle_interval="0.1s")
    await client.cycle_end("skipping", 0)
    await client.ok("POST", "/flows/skipping/stop")
    cycles = (await client.get("/flows/skipping/cycles")).json()["items"]
    assert len(cycles) <= 3
    await client.execute("replacing", slow, [], cycle_interval="0.3s", overlap="replace")
    replaced = await client.cycle_end("replacing", 0)
    assert replaced["status"] == "terminated"
    await client.ok("POST", "/flows/replacing/stop")


async def test_the_catalog_lists_every_node_type(client: Client) -> None:
    listed = (await client.http.get("/nodes/types")).json()["node_types"]
    assert all({"type", "config_schema", "inputs", "outputs"} <= set(entry) for entry in listed)
