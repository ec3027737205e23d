"""Approvals: a node waits for a person, without taking up anything, and gets one answer whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from tests.integration.worker.conftest import Client, StartWorker, tasks_by_node, until
from tests.integration.worker.nodes import TEST_TYPES, edge, node
from tradingflow.py_worker.kit import node_types

ASK = {"question": "Sell?", "timeout_s": 3600}


@pytest.fixture(autouse=True)
def types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEST_TYPES, "approval_node", node_types()["approval_node"])


@pytest.fixture
async def worker(types: None, start_worker: StartWorker) -> AsyncIterator[FastAPI]:
    async with start_worker(max_nodes_in_flight=1) as app:
        yield app


async def ask(client: Client, flow_id: str = "f", **changes: Any) -> None:
    nodes = [
        node("size", "emit", {"value": {"eth": 2}}),
        node("ask", "approval_node", ASK | changes),
        node("yes", "gather"),
        node("no", "gather"),
    ]
    edges = [
        edge("size", "ask", "value", "data"),
        edge("ask", "yes", "approved", "values"),
        edge("ask", "no", "rejected", "values"),
    ]
    await client.execute(flow_id, nodes, edges)


async def pending(client: Client, count: int = 1) -> list[Any]:
    async def asked() -> Any:
        items = (await client.get("/approvals")).json()["items"]
        return items if len(items) == count else None

    found: list[Any] = await until(asked)
    return found


async def statuses(client: Client, flow_id: str = "f") -> dict[str, str]:
    cycle = await client.cycle_end(flow_id)
    return {name: task["status"] for name, task in tasks_by_node(cycle).items()}


@pytest.mark.parametrize(("approved", "taken", "left"), [(True, "yes", "no"), (False, "no", "yes")])
async def test_the_flow_goes_on_where_the_person_says(client: Client, approved: bool, taken: str, left: str) -> None:
    await ask(client)
    (asked,) = await pending(client)
    assert (asked["question"], asked["details"], asked["flow_id"], asked["node_id"]) == (
        "Sell?",
        {"eth": 2},
        "f",
        "ask",
    )
    answer = await client.ok("POST", f"/approvals/{asked['id']}", {"approved": approved, "comment": "ok"})
    assert answer["status"] == ("approved" if approved else "rejected")
    assert await statuses(client) == {"size": "completed", "ask": "completed", taken: "completed", left: "skipped"}
    assert (await client.get("/approvals")).json()["items"] == []
    assert (await client.get("/approvals", status="all")).json()["items"][0]["comment"] == "ok"


@pytest.mark.parametrize(("action", "taken", "left"), [("approve", "yes", "no"), ("reject", "no", "yes")])
async def test_without_an_answer_the_time_out_decides(client: Client, action: str, taken: str, left: str) -> None:
    await ask(client, timeout_s=1, on_timeout=action)
    assert (await statuses(client)) == {"size": "completed", "ask": "completed", taken: "completed", left: "skipped"}
    (asked,) = (await client.get("/approvals", status="all")).json()["items"]
    assert asked["status"] == "timed_out"
    late = await client.post(f"/approvals/{asked['id']}", {"approved": True})
    assert (late.status_code, late.json()["error"]) == (409, "already_answered")


async def test_a_question_is_answered_once(client: Client) -> None:
    await ask(client)
    (asked,) = await pending(client)
    path = f"/approvals/{asked['id']}"
    answers = await asyncio.gather(*(client.post(path, {"approved": n % 2 == 0}) for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [409] * 4
    given = {answer.json()["status"] for answer in answers if answer.status_code == 200}
    assert len(given) == 1


async def test_a_question_to_somebody_else_does_not_exist(client: Client, stranger: Client) -> None:
    await ask(client)
    (asked,) = await pending(client)
    for identity in (asked["id"], uuid4()):
        assert (await stranger.get(f"/approvals/{identity}")).status_code == 404
        assert (await stranger.post(f"/approvals/{identity}", {"approved": True})).status_code == 404
    assert (await stranger.get("/approvals", status="all")).json()["items"] == []
    assert (await client.get(f"/approvals/{asked['id']}")).json()["status"] == "pending"


async def test_who_waits_holds_no_slot_and_no_message(client: Client, worker: FastAPI) -> None:
    """The worker has one slot."""
    for number in range(3):
        await ask(client, f"f{number}")
    await pending(client, 3)
    await client.execute("busy", [node("a", "emit")], [])
    assert (await client.cycle_end("busy"))["status"] == "completed"
    conductor = worker.state.parts.worker.conductor
    waiting = [run for _, run in conductor.running()]
    assert [run.deliveries for run in waiting] == [[], [], []]
    assert worker.state.parts.worker.slots.taken == 0


async def test_a_question_outlives_its_worker(start_worker: StartWorker, add_user: Callable[[], Any]) -> None:
    user = await add_user()
    async with start_worker(max_nodes_in_flight=1) as first:
        client = _client(first, user)
        await ask(client)
        (before,) = await pending(client)
    async with start_worker(max_nodes_in_flight=1) as second:
        client = _client(second, user)
        conductor = second.state.parts.worker.conductor

        async def waits_again() -> bool:
            return any(live.graph.nodes[run.index].id == "ask" for live, run in conductor.running())

        await until(waits_again)
        (after,) = await pending(client)
        assert after == before
        await client.ok("POST", f"/approvals/{after['id']}", {"approved": True})
        assert (await statuses(client))["yes"] == "completed"


async def test_a_question_of_a_stopped_flow_is_withdrawn(client: Client) -> None:
    await ask(client)
    (asked,) = await pending(client)
    await client.ok("POST", "/flows/f/stop")
    assert (await client.get("/approvals")).json()["items"] == []
    assert (await client.get(f"/approvals/{asked['id']}")).json()["status"] == "withdrawn"
    late = await client.post(f"/approvals/{asked['id']}", {"approved": True})
    assert (late.status_code, late.json()["error"]) == (409, "approval_withdrawn")


async def test_questions_are_paged_newest_first(client: Client) -> None:
    for number in range(3):
        await ask(client, f"f{number}")
        await pending(client, number + 1)
    first = (await client.get("/approvals", limit=2)).json()
    rest = (await client.get("/approvals", limit=2, cursor=first["next_cursor"])).json()
    assert [item["flow_id"] for item in first["items"] + rest["items"]] == ["f2", "f1", "f0"]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    "body", [{}, {"approved": "yes"}, {"approved": 1}, {"approved": None}, {"approved": True, "more": 1}, [],
             {"approved": True, "comment": "\x00"}],
)  # fmt: skip
async def test_what_is_no_answer_is_a_422(client: Client, body: Any) -> None:
    await ask(client)
    (asked,) = await pending(client)
    assert (await client.post(f"/approvals/{asked['id']}", body)).status_code == 422
    assert (await client.post("/approvals/7", {"approved": True})).status_code == 422
    for cursor in ("x", "IjIwMjYtMDEtMDEgNyI", "IngiCg"):
        assert (await client.get("/approvals", cursor=cursor)).status_code == 422


def _client(app: FastAPI, user: Any) -> Client:
    return Client(httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://worker"), user)
