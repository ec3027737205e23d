"""A worker with too much in hand says so instead of taking more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
from fastapi import FastAPI

from tests.integration.worker.conftest import Client, StartWorker, until
from tests.integration.worker.nodes import Fail, node
from tradingflow.py_worker.runtime.worker import MAX_WAITING_OF_USER_PER_SLOT


async def test_a_saturated_worker_answers_429_with_retry_after(worker: FastAPI, client: Client) -> None:
    slots = worker.state.parts.worker.slots
    slots.limit = 0
    slots.submit(uuid4(), lambda: False)
    body: dict[str, Any] = {"flow_id": "f", "cycle_interval": 0, "flow_json": {"nodes": [node("a", "emit")]}}
    answer = await client.post("/flows/execute", body)
    assert (answer.status_code, answer.json()["error"]) == (429, "worker_saturated")
    assert int(answer.headers["retry-after"]) > 0


async def test_a_user_with_too_much_waiting_is_refused_and_no_other(
    worker: FastAPI, client: Client, stranger: Client
) -> None:
    slots = worker.state.parts.worker.slots
    slots.limit, limit = 1, slots.limit
    other = uuid4()
    slots.submit(other, lambda: True)
    for _ in range(MAX_WAITING_OF_USER_PER_SLOT + 1):
        slots.submit(client.user_id, lambda: False)
    body: dict[str, Any] = {"flow_id": "f", "cycle_interval": 0, "flow_json": {"nodes": [node("a", "emit")]}}
    answer = await client.post("/flows/execute", body)
    assert (answer.status_code, answer.json()["error"]) == (429, "too_much_waiting")
    assert "3 of your node tasks wait" in answer.json()["detail"]
    assert (await stranger.post("/flows/execute", body)).is_success
    slots.limit = limit
    slots.free(other)


async def test_a_node_that_pauses_before_its_next_attempt_leaves_its_slot_to_others(
    start_worker: StartWorker, add_user: Callable[[], Any]
) -> None:
    async with (
        start_worker(max_nodes_in_flight=1) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://worker") as http,
    ):
        greedy, modest = Client(http, await add_user()), Client(http, await add_user())
        attempts_before = sum(Fail.keys.values())
        retry = {"max_attempts": 20, "initial_interval_s": 3600, "max_interval_s": 3600}
        await greedy.execute("often", [node(name, "fail", retry=retry) for name in "ab"], [])

        async def both_pause() -> bool:
            return sum(Fail.keys.values()) == attempts_before + 2

        await until(both_pause)
        await modest.execute("once", [node("a", "emit")], [])
        assert (await modest.cycle_end("once"))["status"] == "completed"


async def test_a_user_whose_nodes_do_not_end_leaves_slots_to_others(
    start_worker: StartWorker, add_user: Callable[[], Any]
) -> None:
    async with (
        start_worker(max_nodes_in_flight=4) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://worker") as http,
    ):
        greedy, modest = Client(http, await add_user()), Client(http, await add_user())
        slots = app.state.parts.worker.slots
        await greedy.execute("tarpit", [node(name, "sleep", {"seconds": 3600}) for name in "abcdef"], [])

        async def all_are_there() -> bool:
            return bool(slots.taken + slots.waiting == 6)

        await until(all_are_there)
        assert (slots.taken, slots.waiting) == (2, 4)
        await modest.execute("stop_loss", [node("a", "emit")], [])
        assert (await modest.cycle_end("stop_loss"))["status"] == "completed"
