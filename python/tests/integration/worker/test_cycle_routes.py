"""Cycles by hand: manual start, rerun, partial runs, stopping a part, signals, dead letters."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from tests.integration.worker.conftest import Client, tasks_by_node, until
from tests.integration.worker.nodes import edge, node
from tradingflow.core.config import WorkerSettings
from tradingflow.core.ids import cycle_partition
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Flow
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.messages import TradeSettled, encode
from tradingflow.messaging.topology import CYCLES, partition_queue

CHAIN = [node("a", "emit", {"value": 1}), node("b", "add", {"value": 10}), node("c", "add", {"value": 100})]
EDGES = [edge("a", "b"), edge("b", "c")]


async def test_a_cycle_can_be_started_by_hand_and_says_so(client: Client) -> None:
    await client.execute("m", CHAIN, EDGES)
    await client.cycle_end("m")
    assert (await client.post("/flows/m/cycles", {"cycle": 7})).status_code == 409
    started = await client.ok("POST", "/flows/m/cycles", {"cycle": 1})
    assert (started["cycle"], started["trigger"]) == (1, "manual")
    assert (await client.cycle_end("m", 1))["status"] == "completed"


async def test_a_rerun_runs_only_what_had_not_completed(client: Client) -> None:
    nodes = [node("a", "count"), node("bad", "fail", {"times": 1}), node("after", "pass")]
    await client.execute("again", nodes, [edge("a", "bad"), edge("bad", "after")])
    assert (await client.cycle_end("again"))["status"] == "failed"
    rerun = await client.ok("POST", "/flows/again/cycles/0/rerun")
    tasks = tasks_by_node(await client.cycle_end("again", rerun["cycle"]))
    assert tasks["a"]["attempt"] == 0
    assert tasks["a"]["outputs"] == {"value": 1.0}
    assert tasks["bad"]["attempt"] == 1


async def test_a_completed_cycle_is_not_rerun(client: Client) -> None:
    await client.execute("fine", CHAIN, EDGES)
    await client.cycle_end("fine")
    assert (await client.post("/flows/fine/cycles/0/rerun")).status_code == 409


@pytest.mark.parametrize(
    ("scope", "statuses", "result"),
    [
        ("downstream", {"a": "completed", "b": "completed", "c": "completed"}, 111.0),
        ("upstream", {"a": "completed", "b": "completed", "c": "skipped"}, None),
        ("node", {"a": "completed", "b": "completed", "c": "skipped"}, None),
    ],
)
async def test_a_part_runs_with_recorded_outputs_of_the_rest(
    client: Client, scope: str, statuses: dict[str, str], result: float | None
) -> None:
    await client.execute("part", CHAIN, EDGES)
    await client.cycle_end("part")
    cycle = await client.ok("POST", "/flows/part/partial-run", {"scope": scope, "node_id": "b"})
    tasks = tasks_by_node(await client.cycle_end("part", cycle["cycle"]))
    assert {name: task["status"] for name, task in tasks.items()} == statuses
    assert (tasks["a"]["attempt"] == 0) == (scope != "upstream")
    assert tasks["c"]["outputs"] == ({"value": result} if result else {})


async def test_a_part_runs_with_given_inputs_and_without_any_it_is_refused(client: Client) -> None:
    await client.execute("given", CHAIN, EDGES)
    await client.cycle_end("given")
    body: dict[str, Any] = {"scope": "node", "node_id": "c", "inputs": {"b": {"value": 5}}}
    cycle = await client.ok("POST", "/flows/given/partial-run", body)
    tasks = tasks_by_node(await client.cycle_end("given", cycle["cycle"]))
    assert tasks["c"]["outputs"] == {"value": 105.0}
    missing = await client.post("/flows/given/partial-run", {"scope": "node", "node_id": "ghost"})
    assert missing.json()["error"] == "unknown_node"


async def test_stopping_a_component_leaves_the_other_running(client: Client) -> None:
    nodes = [node("slow", "sleep", {"seconds": 60}), node("after", "pass"), node("other", "sleep", {"seconds": 1})]
    await client.execute("two", nodes, [edge("slow", "after")])

    async def open_cycle() -> bool:
        return (await client.get("/flows/two/cycles/0")).is_success

    await until(open_cycle)
    await client.ok("POST", "/flows/two/cycles/0/components/0/stop")
    cycle = await client.cycle_end("two")
    statuses = {name: task["status"] for name, task in tasks_by_node(cycle).items()}
    assert statuses == {"slow": "terminated", "after": "terminated", "other": "completed"}
    assert cycle["status"] == "terminated"


async def test_a_node_task_is_found_by_its_id_and_can_be_stopped(client: Client, stranger: Client) -> None:
    nodes = [node("slow_1", "sleep", {"seconds": 60}), node("after", "pass")]
    await client.execute("find_me", nodes, [edge("slow_1", "after")])

    async def pending() -> bool:
        return (await client.get("/nodes/find_me_0_slow_1/status")).is_success

    await until(pending)
    assert (await stranger.get("/nodes/find_me_0_slow_1/status")).status_code == 404
    assert (await stranger.post("/nodes/find_me_0_slow_1/stop")).status_code == 404
    await client.ok("POST", "/nodes/find_me_0_slow_1/stop")
    cycle = await client.cycle_end("find_me")
    statuses = {name: task["status"] for name, task in tasks_by_node(cycle).items()}
    assert statuses == {"slow_1": "terminated", "after": "skipped"}


async def test_running_node_tasks_are_listed_for_their_owner_only(client: Client, stranger: Client) -> None:
    await client.execute("listed", [node("slow", "sleep", {"seconds": 60})], [])

    async def listed() -> Any:
        return (await client.get("/nodes")).json()

    assert [task["id"] for task in await until(listed)] == ["listed_0_slow"]
    assert [task["id"] for task in (await client.get("/worker/nodes")).json()] == ["listed_0_slow"]
    assert (await stranger.get("/nodes")).json() == (await stranger.get("/worker/nodes")).json() == []
    await client.ok("POST", "/flows/listed/stop")


async def test_the_signals_of_a_cycle_are_readable(client: Client) -> None:
    await client.execute("sig", CHAIN, EDGES)
    await client.cycle_end("sig")
    signals = await client.ok("GET", "/flows/sig/cycles/0/signals")
    assert [(s["source_node"], s["target_node"], s["value"]) for s in signals] == [("a", "b", 1), ("b", "c", 11.0)]


async def test_put_makes_a_version_without_running_and_delete_needs_a_stopped_flow(client: Client) -> None:
    body = {"flow_id": "p", "cycle_interval": "1h", "flow_json": {"nodes": CHAIN, "edges": EDGES}}
    assert (await client.ok("PUT", "/flows/p", body))["status"] == "stopped"
    await client.execute("p", CHAIN[:1], [])
    versions = await client.ok("GET", "/flows/p/versions")
    assert [v["version"] for v in versions["items"]] == [2, 1]
    await client.cycle_end("p")
    assert (await client.http.delete("/flows/p", headers=client.headers)).status_code == 409
    await client.ok("POST", "/flows/p/stop")
    assert (await client.http.delete("/flows/p", headers=client.headers)).status_code == 204
    assert (await client.get("/flows/p")).status_code == 404


async def test_a_poison_signal_is_dead_lettered_visible_and_replayable_and_its_neighbours_go_on(
    client: Client, settings: WorkerSettings, sessions: SessionFactory
) -> None:
    nodes = [node("slow", "sleep", {"seconds": 3}), node("after", "pass")]
    await client.execute("victim", nodes, [edge("slow", "after")])

    async def running() -> bool:
        return (await client.get("/flows/victim/cycles/0")).is_success

    await until(running)
    async with sessions() as session:
        flow_pk: UUID = (await session.scalars(select(Flow.id).where(Flow.flow_id == "victim"))).one()
    poison = _signals_of_a_node_that_is_not_there(flow_pk)
    partition = cycle_partition(flow_pk, 0, settings.cycle_partitions)
    async with Broker(settings.rabbitmq_dsn, name="test", partitions=settings.cycle_partitions) as broker:
        await broker.publish(CYCLES, partition_queue(partition), poison, message_id="poison")
        await broker.publish(CYCLES, partition_queue(partition), b"not json", message_id="garbage")
        settled = encode(TradeSettled(flow_pk, 0, "after", "0x" + "00" * 32))
        await broker.publish(CYCLES, partition_queue(partition), settled, message_id="neighbour")
        await client.execute("neighbour", CHAIN, EDGES)
        assert (await client.cycle_end("neighbour"))["status"] == "completed"

    async def buried() -> Any:
        return (await client.get("/flows/victim/dead-letters")).json()["items"]

    letters = await until(buried)
    assert "unknown_node" in letters[0]["reason"]
    assert (await client.cycle_end("victim"))["status"] == "completed"
    path = f"/flows/victim/dead-letters/{letters[0]['id']}/replay"
    assert (await client.ok("POST", path))["status"] == "replayed"
    assert (await client.post(path)).status_code == 409


def _signals_of_a_node_that_is_not_there(flow_pk: UUID) -> bytes:
    text = f"""{{"type": "signals", "flow_pk": "{flow_pk}", "cycle": 0, "source_node": "ghost", "status": "completed",
      "outputs": {{}}, "error": null, "attempt": 1, "started_at": "2026-01-01T00:00:00Z",
      "finished_at": "2026-01-01T00:00:00Z"}}"""
    return text.encode()
