"""Datasets in PostgreSQL: written once, within quotas, seen by their owner only; by nodes and over REST."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI

from tests.integration.worker.conftest import Client, StartWorker, tasks_by_node
from tests.integration.worker.nodes import TEST_TYPES, edge, node
from tradingflow.core.clock import SystemClock
from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.db.engine import SessionFactory
from tradingflow.py_worker.datasets import store
from tradingflow.py_worker.datasets.store import DatasetStore, OwnedDatasets
from tradingflow.py_worker.kit import node_types

OWN = {name: node_types()[name] for name in ("dataset_input_node", "dataset_output_node")}


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, found in OWN.items():
        monkeypatch.setitem(TEST_TYPES, name, found)


@pytest.fixture
async def worker(types: None, start_worker: StartWorker) -> Any:
    async with start_worker() as app:
        yield app


@pytest.fixture
async def mine(sessions: SessionFactory, add_user: Callable[[], Any]) -> OwnedDatasets:
    return DatasetStore(sessions, SystemClock()).for_owner(await add_user())


async def write(datasets: OwnedDatasets, rows: list[Any], key: str, name: str = "log", **more: Any) -> int:
    return await datasets.write(name, rows, append=True, write_key=key, **more)


async def test_a_flow_writes_rows_and_another_reads_them(client: Client, worker: FastAPI) -> None:
    flow = [node("a", "emit", {"value": {"side": "buy"}}), node("out", "dataset_output_node", {"name": "log"})]
    await client.execute("w", flow, [edge("a", "out", "value", "data")])
    assert tasks_by_node(await client.cycle_end("w"))["out"]["outputs"]["rows"] == 1
    await client.execute("r", [node("in", "dataset_input_node", {"name": "log"})], [])
    assert tasks_by_node(await client.cycle_end("r"))["in"]["outputs"] == {"data": [{"side": "buy"}]}


async def test_a_table_of_somebody_else_is_not_there(client: Client, stranger: Client) -> None:
    await client.ok("POST", "/datasets/log/rows", {"rows": [{"a": 1}]})
    for path in ("/datasets/log", "/datasets/log/rows", "/datasets/log/file"):
        assert (await stranger.get(path)).status_code == 404
    assert (await stranger.http.delete("/datasets/log", headers=stranger.headers)).status_code == 404
    await stranger.ok("POST", "/datasets/log/rows", {"rows": [{"b": 1}]})
    assert (await client.get("/datasets/log")).json()["rows"] == 1
    assert [item["name"] for item in (await stranger.get("/datasets")).json()["items"]] == ["log"]


async def test_the_same_write_twice_at_once_is_one_write(mine: OwnedDatasets) -> None:
    counts = await asyncio.gather(*(write(mine, [{"n": 1}], "key") for _ in range(8)))
    assert counts == [1] * 8
    assert await mine.read("log", 10) == [{"n": 1}]


async def test_writes_side_by_side_all_count(mine: OwnedDatasets) -> None:
    await asyncio.gather(*(write(mine, [{"n": n}, {"n": n}], f"key {n}") for n in range(10)))
    rows = await mine.read("log", 100)
    assert len(rows) == 20
    assert [row["n"] for row in rows[::2]] == [row["n"] for row in rows[1::2]]


async def test_only_the_newest_rows_are_kept_and_read(mine: OwnedDatasets) -> None:
    held = 0
    for n in range(4):
        held = await write(mine, [{"n": n}, {"n": n + 0.5}], f"key {n}", keep_rows=3)
    assert held == 3
    assert [row["n"] for row in await mine.read("log", 2)] == [3, 3.5]


async def test_more_than_a_node_could_put_out_is_refused_before_it_is_read(
    client: Client, worker: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows take many times their bytes in memory, and a node may ask for 10,000 of 64,000 bytes."""
    monkeypatch.setattr(store, "MAX_BYTES_READ", 1_000)
    rows = [{"text": "x" * 400} for _ in range(3)]
    await client.ok("POST", "/datasets/log/rows", {"rows": rows})
    await client.execute("fits", [node("in", "dataset_input_node", {"name": "log", "limit": 2})], [])
    assert len(tasks_by_node(await client.cycle_end("fits"))["in"]["outputs"]["data"]) == 2
    await client.execute("large", [node("in", "dataset_input_node", {"name": "log", "limit": 3})], [])
    failed = tasks_by_node(await client.cycle_end("large"))["in"]
    assert (failed["status"], failed["error"]["error"]) == ("failed", "rows_too_large")
    assert "at most 1000 are read at a time; ask for fewer rows" in failed["error"]["detail"]


async def test_writing_over_leaves_what_was_there_when_it_is_refused(
    mine: OwnedDatasets, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(mine, [{"n": 1}], "first")
    monkeypatch.setattr(store, "MAX_ROWS_STORED", 2)
    with pytest.raises(Refused, match="dataset_quota"):
        await mine.write("log", [{"n": 2}] * 3, append=False, write_key="second")
    assert await mine.read("log", 10) == [{"n": 1}]
    assert await mine.write("log", [{"n": 2}] * 2, append=False, write_key="second") == 2


async def test_quotas_hold_whoever_writes_at_once(mine: OwnedDatasets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_DATASETS", 3)
    monkeypatch.setattr(store, "MAX_BYTES_OF_USER", 3_000)
    row = {"text": "x" * 900}
    answers = await asyncio.gather(
        *(write(mine, [row], "key", name=f"table{n}") for n in range(8)), return_exceptions=True
    )
    assert sum(answer == 1 for answer in answers) == 3
    with pytest.raises(Refused, match="hold 3000 bytes together"):
        await write(mine, [row], "more", name=f"table{answers.index(1)}")


@pytest.mark.parametrize("row", [{"a": "\x00"}, {"a": float("nan")}, {"a": "\ud800"}, {"a": "x" * 70_000}])
async def test_a_row_postgresql_cannot_hold_is_refused(mine: OwnedDatasets, row: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await write(mine, [row], "key")


async def test_an_unknown_table_is_told_with_those_that_are_there(mine: OwnedDatasets) -> None:
    await write(mine, [{"n": 1}], "key", name="prices")
    with pytest.raises(Refused, match="no dataset named 'price'; you have: prices"):
        await mine.read("price", 1)


@pytest.mark.parametrize("keep_rows", [True, 0, 100_001])
async def test_how_many_rows_stay_is_a_number(client: Client, keep_rows: Any) -> None:
    answer = await client.post("/datasets/log/rows", {"rows": [{"n": 1}, {"n": 2}], "keep_rows": keep_rows})
    assert (answer.status_code, "keep_rows" in answer.json()["detail"]) == (422, True)
    assert (await client.get("/datasets/log")).status_code == 404


async def test_a_file_goes_in_and_comes_out(client: Client) -> None:
    headers = {**client.headers, "content-type": "text/csv; charset=utf-8"}
    put = await client.http.put("/datasets/prices/file", content=b"day,close\r\nmon,1.5\r\n", headers=headers)
    assert (put.status_code, put.json()["rows"]) == (200, 1)
    csv = await client.get("/datasets/prices/file")
    assert (csv.content, csv.headers["content-type"]) == (b"day,close\r\nmon,1.5\r\n", "text/csv; charset=utf-8")
    assert (await client.get("/datasets/prices/file", format="json")).json() == [{"day": "mon", "close": "1.5"}]


@pytest.mark.parametrize("file_format", ["csv", "json"])
async def test_a_file_is_made_beside_the_event_loop(
    client: Client, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    """Seconds of it would stop every flow of the worker."""
    threads: set[int] = set()

    def loads(text: str) -> Any:
        threads.add(threading.get_ident())
        return json.loads(text)

    await client.ok("POST", "/datasets/log/rows", {"rows": [{"b": 1, "a": [None]}, {"c": "\u00e9"}]})
    monkeypatch.setattr("tradingflow.py_worker.datasets.endpoints.json", SimpleNamespace(loads=loads))
    written = (await client.get("/datasets/log/file", format=file_format)).content
    rows = [{"a": [None], "b": 1}, {"c": "\u00e9"}]  # jsonb orders names
    assert written == ("a,b,c\r\n[null],1,\r\n,,\u00e9\r\n" if file_format == "csv" else json.dumps(rows)).encode()
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    ("media", "body"),
    [("text/csv", b"a,a\n1,2"), ("application/json", b"{}"), ("application/json", b"[NaN"), ("text/plain", b"x"),
     ("application/json", b'[{"a": "\\u0000"}]'), ("application/json", b'[{"a": "\\ud800"}]')],
)  # fmt: skip
async def test_a_file_that_is_none_is_a_422(client: Client, media: str, body: bytes) -> None:
    answer = await client.http.put("/datasets/x/file", content=body, headers={**client.headers, "content-type": media})
    assert answer.status_code == 422
    assert (await client.get("/datasets/x")).status_code == 404


async def test_rows_are_paged_newest_first_and_deleted_with_their_table(client: Client) -> None:
    body = {"rows": [{"n": n} for n in range(5)], "write_key": "once"}
    await client.ok("POST", "/datasets/log/rows", body)
    assert (await client.ok("POST", "/datasets/log/rows", body))["rows"] == 5
    first = (await client.get("/datasets/log/rows", limit=3)).json()
    rest = (await client.get("/datasets/log/rows", limit=3, cursor=first["next_cursor"])).json()
    assert [row["value"]["n"] for row in first["items"] + rest["items"]] == [4, 3, 2, 1, 0]
    assert rest["next_cursor"] is None


async def test_a_page_of_large_rows_ends_before_it_holds_too_much(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 rows of 64,000 bytes are read as objects that take many times as much."""
    monkeypatch.setattr(store, "MAX_BYTES_READ", 1_000)
    await client.ok("POST", "/datasets/log/rows", {"rows": [{"n": n, "text": "x" * 400} for n in range(5)]})
    pages: list[list[int]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await client.get("/datasets/log/rows", **({"cursor": cursor} if cursor else {}))).json()
        pages.append([row["value"]["n"] for row in page["items"]])
        cursor = page["next_cursor"]
    assert pages == [[4, 3], [2, 1], [0]]
    assert (await client.http.delete("/datasets/log", headers=client.headers)).status_code == 204
    assert (await client.get("/datasets/log")).status_code == 404


async def test_deleting_a_user_deletes_their_tables(mine: OwnedDatasets, sessions: SessionFactory) -> None:
    from sqlalchemy import delete, func, select

    from tradingflow.db.models import DatasetRow, User

    await write(mine, [{"n": 1}], "key")
    owner: UUID = mine.owner
    async with sessions.begin() as session:
        await session.execute(delete(User).where(User.id == owner))
        assert await session.scalar(select(func.count()).select_from(DatasetRow)) == 0
