"""Flows from REST to the last stored node task, over PostgreSQL and RabbitMQ."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from tests.integration.worker.conftest import Client, tasks_by_node, until
from tests.integration.worker.nodes import edge, node


async def test_the_engine_says_why_a_cycle_failed(client: Client) -> None:
    await client.execute("told", [node("a", "emit"), node("b", "fail")], [edge("a", "b")])
    await client.cycle_end("told")
    (line,) = (await client.ok("GET", "/flows/told/cycles/0/nodes/system/logs"))["items"]
    assert (line["log_level"], line["node_id"]) == ("ERROR", None)
    assert line["message"].startswith("cycle failed: b (")


async def test_a_chain_runs_to_its_end_and_every_task_is_stored(client: Client) -> None:
    nodes = [node("a", "emit", {"value": 40}), node("b", "add", {"value": 1}), node("c", "add", {"value": 1})]
    flow = await client.execute("chain", nodes, [edge("a", "b"), edge("b", "c")])
    assert flow["version"] == 1
    cycle = await client.cycle_end("chain")
    assert cycle["status"] == "completed"
    tasks = tasks_by_node(cycle)
    assert {name: task["status"] for name, task in tasks.items()} == dict.fromkeys("abc", "completed")
    assert tasks["c"]["outputs"] == {"value": 42.0}
    assert tasks["c"]["id"] == "chain_0_c"
    assert tasks["a"]["finished_at"] <= tasks["b"]["started_at"]


async def test_an_unconnected_node_and_two_components_end_in_one_cycle(client: Client) -> None:
    nodes = [node("a", "emit"), node("b", "pass"), node("x", "emit"), node("y", "pass"), node("alone", "emit")]
    await client.execute("parts", nodes, [edge("a", "b"), edge("x", "y")])
    cycle = await client.cycle_end("parts")
    assert cycle["status"] == "completed"
    assert len(cycle["node_tasks"]) == 5


async def test_a_diamond_joins_both_branches_once(client: Client) -> None:
    nodes = [node("a", "emit", {"value": 1}), node("l", "add", {"value": 1}), node("r", "add", {"value": 2})]
    nodes.append(node("join", "gather"))
    edges = [edge("a", "l"), edge("a", "r"), edge("l", "join", "value", "values"), edge("r", "join", "value", "values")]
    await client.execute("diamond", nodes, edges)
    tasks = tasks_by_node(await client.cycle_end("diamond"))
    assert tasks["join"]["outputs"] == {"value": [2.0, 3.0]}


async def test_a_branch_not_taken_skips_its_descendants_and_an_any_join_goes_on(client: Client) -> None:
    nodes = [node("a", "emit"), node("if", "split", {"value": True}), node("yes", "pass"), node("no", "pass")]
    nodes += [node("after_no", "pass"), node("either", "pass", join="any"), node("both", "gather")]
    edges = [
        edge("a", "if"),
        edge("if", "yes", "true"),
        edge("if", "no", "false"),
        edge("no", "after_no"),
        edge("yes", "either"),
        edge("after_no", "either"),
        edge("yes", "both", "value", "values"),
        edge("no", "both", "value", "values"),
    ]
    await client.execute("branches", nodes, edges)
    cycle = await client.cycle_end("branches")
    statuses = {name: task["status"] for name, task in tasks_by_node(cycle).items()}
    assert cycle["status"] == "completed"
    assert statuses == {
        "a": "completed",
        "if": "completed",
        "yes": "completed",
        "no": "skipped",
        "after_no": "skipped",
        "either": "completed",
        "both": "skipped",
    }


async def test_a_failed_node_fails_the_cycle_but_not_the_other_component(client: Client) -> None:
    nodes = [node("bad", "fail"), node("after", "pass"), node("x", "emit"), node("y", "pass")]
    await client.execute("failing", nodes, [edge("bad", "after"), edge("x", "y")])
    cycle = await client.cycle_end("failing")
    tasks = tasks_by_node(cycle)
    assert cycle["status"] == "failed"
    assert tasks["bad"]["error"] == {"error": "no_luck", "detail": "this node was told to fail"}
    assert tasks["after"]["status"] == "skipped"
    assert tasks["y"]["status"] == "completed"


async def test_a_node_that_breaks_is_a_failed_task_not_a_dead_worker(client: Client) -> None:
    await client.execute("defect", [node("bad", "fail", {"defect": True})], [])
    tasks = tasks_by_node(await client.cycle_end("defect"))
    assert tasks["bad"]["error"]["error"] == "node_defect"


@pytest.mark.parametrize(
    ("where", "ending", "code"),
    [
        ("log", "completed", None),
        ("failure", "failed", "odd"),
        ("question", "failed", "invalid_row"),
        ("key", "failed", "invalid_state_key"),
        ("deep", "failed", "node_defect"),
    ],
)
async def test_what_cannot_be_stored_ends_its_node_and_holds_nobody_up(
    client: Client, stranger: Client, where: str, ending: str, code: str | None
) -> None:
    await client.execute("odd", [node("a", "odd", {"where": where})], [])
    task = tasks_by_node(await client.cycle_end("odd"))["a"]
    assert (task["status"], (task["error"] or {}).get("error")) == (ending, code)
    await stranger.execute("even", [node("a", "emit")], [])
    assert (await stranger.cycle_end("even"))["status"] == "completed"


async def test_a_retry_keeps_the_idempotency_key_and_the_attempt_is_told(client: Client) -> None:
    retry = {"max_attempts": 3, "initial_interval_s": 0.01}
    await client.execute("retry", [node("a", "fail", {"times": 2}, retry=retry)], [])
    task = tasks_by_node(await client.cycle_end("retry"))["a"]
    assert (task["status"], task["attempt"], task["outputs"]) == ("completed", 3, {"value": 3})


async def test_a_node_past_its_timeout_fails(client: Client) -> None:
    await client.execute("slow", [node("a", "sleep", {"seconds": 60}, timeout_s=0.05)], [])
    task = tasks_by_node(await client.cycle_end("slow"))["a"]
    assert task["error"] == {"error": "timeout", "detail": "did not end within 0.05 s"}


async def test_on_error_route_sends_the_error_and_continue_forgives_it(client: Client) -> None:
    nodes = [node("r", "fail", on_error="route"), node("handler", "pass"), node("normal", "pass")]
    nodes += [node("c", "fail", on_error="continue"), node("after", "pass")]
    edges = [edge("r", "handler", "error"), edge("r", "normal"), edge("c", "after")]
    await client.execute("errors", nodes, edges)
    cycle = await client.cycle_end("errors")
    tasks = tasks_by_node(cycle)
    assert cycle["status"] == "completed"
    assert tasks["handler"]["outputs"]["value"]["error"] == "no_luck"
    assert tasks["normal"]["status"] == tasks["after"]["status"] == "skipped"


async def test_an_interval_opens_cycle_after_cycle_and_a_node_remembers(client: Client) -> None:
    await client.execute("steady", [node("n", "count")], [], cycle_interval="0.2s")
    third = await client.cycle_end("steady", 2)
    assert tasks_by_node(third)["n"]["outputs"] == {"value": 3.0}
    await client.ok("POST", "/flows/steady/stop")


async def test_the_log_of_a_node_is_there_for_its_owner(client: Client) -> None:
    await client.execute("logged", [node("a", "emit", {"value": 7})], [])
    await client.cycle_end("logged")
    logs = await client.ok("GET", "/flows/logged/logs?node_id=a&cycle=0")
    assert [(line["message"], line["log_level"]) for line in logs["items"]] == [("emitting what=7", "INFO")]


async def test_a_long_running_node_is_shown_as_running(client: Client, worker: FastAPI) -> None:
    await client.execute("long", [node("a", "sleep", {"seconds": 30})], [])

    async def shown() -> bool:
        answer = await client.get("/flows/long/cycles/0")
        return answer.is_success and [t["status"] for t in answer.json()["node_tasks"]] == ["running"]

    await until(shown)
    await client.ok("POST", "/flows/long/stop")
