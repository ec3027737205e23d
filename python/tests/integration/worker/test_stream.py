"""`GET /flows/{id}/stream`: what a watcher is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select

from tests.integration.worker.conftest import Client, until
from tests.integration.worker.nodes import edge, node
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Flow
from tradingflow.py_worker.flows import stream
from tradingflow.py_worker.flows.stream import flow_events
from tradingflow.py_worker.parts import MAX_STREAMS, MAX_STREAMS_OF_USER, Parts

DEADLINE_S = 20.0


class Watcher:
    def __init__(self, parts: Parts, flow: Flow) -> None:
        self.is_stopping = False
        self.is_signed_in = True
        self._events: AsyncIterator[str] = flow_events(parts, flow, lambda: self.is_stopping, self._may_watch)

    async def _may_watch(self) -> bool:
        return self.is_signed_in

    async def next(self) -> tuple[str, Any]:
        """Name and data of the next event; raises StopAsyncIteration at the end."""
        async with asyncio.timeout(DEADLINE_S):
            text = await anext(self._events)
        name, _, data = text.partition("\ndata: ")
        return name.removeprefix("event: ").strip(), json.loads(data) if data else None

    async def until_cycle_ends(self) -> list[tuple[str, Any]]:
        told: list[tuple[str, Any]] = []
        while not told or told[-1][0] != "cycle" or told[-1][1]["status"] == "running":
            told.append(await self.next())
        return told


@pytest.fixture
async def watcher(client: Client, worker: FastAPI, sessions: SessionFactory) -> AsyncIterator[Watcher]:
    nodes = [node("a", "emit", {"value": 5}), node("b", "pass"), node("c", "fail")]
    manual: dict[str, Any] = {"cycle_interval": None, "trigger": {"type": "manual"}}
    await client.execute("watched", nodes, [edge("a", "b"), edge("a", "c")], **manual)
    async with sessions() as session:
        flow = (await session.scalars(select(Flow))).one()
    watcher = Watcher(worker.state.parts, flow)
    assert (await watcher.next())[0] == ": watching"
    yield watcher
    watcher.is_stopping = True


async def test_states_and_signals_are_told_as_they_happen(client: Client, watcher: Watcher) -> None:
    await client.ok("POST", "/flows/watched/cycles")
    told = await watcher.until_cycle_ends()
    ends = {d["node_id"]: d["status"] for name, d in told if name == "node"}
    assert ends == {"a": "completed", "b": "completed", "c": "failed"}
    signals = [d for name, d in told if name == "signal"]
    assert {(s["source_node"], s["target_node"], s["value"]) for s in signals} == {("a", "b", 5), ("a", "c", 5)}
    assert told[-1] == ("cycle", {"cycle": 0, "status": "failed"})
    assert next(d["error"]["error"] for name, d in told if name == "node" and d["node_id"] == "c")


async def test_the_stream_ends_when_the_worker_stops_or_the_flow_is_deleted(client: Client, watcher: Watcher) -> None:
    await client.ok("POST", "/flows/watched/stop")
    await client.http.delete("/flows/watched", headers=client.headers)
    with pytest.raises(StopAsyncIteration):
        await watcher.next()


async def test_a_watcher_who_is_signed_out_is_told_no_more(watcher: Watcher) -> None:
    watcher.is_signed_in = False
    with pytest.raises(StopAsyncIteration):
        await watcher.next()


async def test_a_stopping_worker_ends_its_streams(watcher: Watcher) -> None:
    watcher.is_stopping = True
    with pytest.raises(StopAsyncIteration):
        await watcher.next()


async def test_too_many_streams_are_a_429(client: Client, watcher: Watcher, worker: FastAPI) -> None:
    with ExitStack() as others:
        for _ in range(MAX_STREAMS):
            others.enter_context(worker.state.parts.streams.place(uuid4()))
        answer = await client.get("/flows/watched/stream")
    assert (answer.status_code, answer.json()["error"]) == (429, "too_many_streams")


async def test_one_user_cannot_take_all_streams_not_even_at_once(
    client: Client, stranger: Client, watcher: Watcher, worker: FastAPI
) -> None:
    await stranger.execute("theirs", [node("a", "emit")], [])
    streams = worker.state.parts.streams
    watching = [asyncio.create_task(client.get("/flows/watched/stream")) for _ in range(MAX_STREAMS_OF_USER + 3)]
    watching.append(asyncio.create_task(stranger.get("/flows/theirs/stream")))

    async def the_rest_is_refused() -> bool:
        refused = sum(task.done() for task in watching)
        return bool((streams.taken, refused) == (MAX_STREAMS_OF_USER + 1, 3))

    await until(the_rest_is_refused)
    worker.state.is_stopping = lambda: True
    answers = await asyncio.gather(*watching)
    codes = [answer.status_code for answer in answers]
    assert (codes.count(200), codes.count(429), codes[-1]) == (MAX_STREAMS_OF_USER + 1, 3, 200)
    assert streams.taken == 0


async def test_the_stream_of_a_client_that_does_not_read_ends(
    client: Client, watcher: Watcher, worker: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MAX_SEND_S", 0.01)
    taken: list[int] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message.get("body"):
            taken.append(worker.state.parts.streams.taken)
            await asyncio.Event().wait()

    request = httpx.Request("GET", "http://worker/flows/watched/stream", headers=client.headers)
    path = request.url.path
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
    }
    scope |= {"scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    scope |= {"headers": [(name.lower(), value) for name, value in request.headers.raw], "client": None, "server": None}
    async with asyncio.timeout(DEADLINE_S):
        await worker(scope, receive, send)
    assert (taken, worker.state.parts.streams.taken) == ([1], 0)
