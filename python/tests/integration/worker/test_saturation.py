"""A worker with too much in hand says so instead of taking more."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from fastapi import FastAPI

from tests.integration.worker.conftest import Client
from tests.integration.worker.nodes import node


async def test_a_saturated_worker_answers_429_with_retry_after(worker: FastAPI, client: Client) -> None:
    slots = worker.state.parts.worker.slots
    slots.limit = 0
    slots.submit(uuid4(), lambda: False)
    body: dict[str, Any] = {"flow_id": "f", "cycle_interval": 0, "flow_json": {"nodes": [node("a", "emit")]}}
    answer = await client.post("/flows/execute", body)
    assert (answer.status_code, answer.json()["error"]) == (429, "worker_saturated")
    assert int(answer.headers["retry-after"]) > 0
