"""A cycle on a real worker is journaled as it runs, and can be run again offline."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, update

from tests.integration.simulation.world import World, edge
from tests.integration.worker.conftest import tasks_by_node
from tradingflow.db.models import JournalEntry, PaperTrade

NAME = "recorded"


async def record(world: World, **config: Any) -> tuple[list[Any], list[Any]]:
    nodes, edges = world.flow(**config)
    await world.client.execute(NAME, nodes, edges, mode="paper")
    assert (await world.client.cycle_end(NAME))["status"] == "completed"
    return nodes, edges


async def replay(world: World, body: Any = None) -> Any:
    return await world.client.ok("POST", f"/flows/{NAME}/cycles/0/replay", body)


def by_node(replayed: Any) -> dict[str, Any]:
    return {node["node_id"]: node for node in replayed["nodes"]}


async def test_a_recorded_cycle_replays_to_equal_outputs_with_the_chain_gone(world: World) -> None:
    await record(world, amount="50")
    cycle = await world.client.cycle_end(NAME)
    world.anvil.stop()
    replayed = await replay(world)
    assert replayed["equal"], replayed
    assert {node["verdict"] for node in replayed["nodes"]} == {"same"}
    for node_id, task in tasks_by_node(cycle).items():
        assert by_node(replayed)[node_id]["replayed"]["outputs"] == task["outputs"]
    async with world.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(PaperTrade)) == 1


async def test_an_edited_version_shows_what_it_would_have_done(world: World) -> None:
    nodes, edges = await record(world, amount="50")
    nodes[2]["config"]["amount"] = "70"
    replayed = await replay(world, {"flow_json": {"nodes": nodes, "edges": edges}})
    found = by_node(replayed)
    assert (replayed["equal"], replayed["version"]) == (False, None)
    assert found["price"]["verdict"] == found["cheap"]["verdict"] == "same"
    assert found["buy"]["verdict"] == "changed"
    amounts = [found["buy"][f"{when}_trade"]["amount_in"] for when in ("recorded", "replayed")]
    assert amounts == ["50000000", "70000000"]
    assert "trades.swap" in found["buy"]["unanswered"]

    nodes, edges = world.flow(cheap_below="1.0", amount="50")
    await world.client.ok(
        "PUT",
        f"/flows/{NAME}",
        {"flow_id": NAME, "cycle_interval": 0, "mode": "paper", "flow_json": {"nodes": nodes, "edges": edges}},
    )
    stricter = await replay(world, {"version": 2})
    assert by_node(stricter)["buy"]["replayed"]["status"] == "skipped"
    assert by_node(stricter)["buy"]["replayed_trade"] is None


async def test_nodes_that_came_and_went_are_told_apart(world: World) -> None:
    await record(world, amount="50")
    more = {"id": "dear", "type": "condition_node", "config": {"expression": "price > 1.0"}}
    graph = {"nodes": [world.price(), more], "edges": [edge("price", "price", "dear", "price")]}
    found = by_node(await replay(world, {"flow_json": graph}))
    assert {name: node["verdict"] for name, node in found.items()} == {
        "price": "same",
        "dear": "added",
        "cheap": "removed",
        "buy": "removed",
    }


async def test_what_cannot_be_replayed_says_why(world: World) -> None:
    await record(world, amount="50")
    where = f"/flows/{NAME}/cycles/0/replay"
    assert (await world.stranger.post(where)).status_code == 404
    assert (await world.client.post(where, {"version": 9})).status_code == 404
    both = {"version": 1, "flow_json": {"nodes": [], "edges": []}}
    assert (await world.client.post(where, both)).status_code == 422
    assert (await world.client.post(f"/flows/{NAME}/cycles/7/replay")).status_code == 404
    async with world.sessions.begin() as session:
        await session.execute(update(JournalEntry).values(is_cut=True))
    answer = await world.client.post(where)
    assert (answer.status_code, answer.json()["error"]) == (409, "journal_cut")


async def test_the_journal_shows_what_came_in_to_its_owner_only(world: World) -> None:
    await record(world, amount="50")
    where = f"/flows/{NAME}/cycles/0/journal"
    told = {node["node_id"]: node["entries"] for node in await world.client.ok("GET", where)}
    assert (told["price"][0]["part"], told["price"][0]["call"]) == ("markets", "pool_price")
    assert [entry["call"] for entry in told["buy"] if entry["part"] == "trades"] == ["resume", "swap"]
    assert "cheap" not in told
    assert (await world.stranger.get(where)).status_code == 404
