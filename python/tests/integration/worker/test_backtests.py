"""Backtests over REST: queued, run in a process of their own, survived by their results, seen by their owner only."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
import zlib
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from sqlalchemy import func, inspect, select, update

from tests.integration.worker.conftest import Client, until
from tests.unit.backtest.flows import cross_flow, edge, generated, node
from tradingflow.core.clock import SystemClock
from tradingflow.core.config import WorkerSettings
from tradingflow.core.errors import TooManyRequests
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import BacktestFile, BacktestJob, Flow, FlowVersion, Schedule
from tradingflow.py_worker.backtest.candle_files import parse_candles
from tradingflow.py_worker.backtest.requests import read_spec
from tradingflow.py_worker.backtest.run import backtest, flow_under_test
from tradingflow.py_worker.backtests import runner, store
from tradingflow.py_worker.backtests.job import read_plan
from tradingflow.py_worker.backtests.runner import BacktestRunner
from tradingflow.py_worker.backtests.store import Claim, Submission
from tradingflow.py_worker.sandbox.runner import SandboxPlan

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FLOW = cross_flow(5, 12, 20)


def csv_text(candles: int = 300) -> str:
    made = generated(candles)
    rows = (",".join(map(repr, [int(row[0]), *row[1:]])) for row in made.rows(0, len(made)))
    return "timestamp,open,high,low,close,volume\n" + "\n".join(rows)


def body(**more: Any) -> dict[str, Any]:
    return {"flow_json": FLOW, "cash": "500", "data": [{"symbol": "ETHBTC", "csv": csv_text()}], **more}


async def ended(client: Client, identity: str) -> Any:
    async def look() -> Any:
        found = await client.ok("GET", f"/backtests/{identity}")
        return found if found["status"] not in store.OPEN else None

    return await until(look, 90)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker takes a backtest from the queue."""

    async def wait(self: BacktestRunner) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(BacktestRunner, "run", wait)


@pytest.fixture
async def queued(sessions: SessionFactory, add_user: Callable[[], Any]) -> UUID:
    """One in the queue, and nobody who runs it; its owner."""
    owner: UUID = await add_user()
    await submit(sessions, owner)
    return owner


async def submit(sessions: SessionFactory, owner: UUID) -> None:
    named = [{"symbol": "ETHBTC", "interval": None}]
    request = {"flow_json": FLOW, "flow_pk": None, "name": "flow", "version": 1, "spec": {}, "series": named}
    async with sessions.begin() as session:
        await store.add(session, owner, Submission(None, None, request, [csv_text(60)], 60))


async def claim(sessions: SessionFactory, now: datetime) -> Claim | None:
    async with sessions.begin() as session:
        return await store.claim(session, now)


async def only_job(sessions: SessionFactory) -> BacktestJob:
    async with sessions() as session:
        return (await session.scalars(select(BacktestJob))).one()


async def test_a_backtest_is_the_command_lines_to_the_byte(client: Client) -> None:
    asked = await client.post("/backtests", body(initial_balances={}))
    assert asked.status_code == 202, asked.text
    found = await ended(client, asked.json()["id"])
    assert (found["status"], found["failure"]) == ("completed", None)
    assert (found["progress"]["cycles_done"], found["progress"]["cycles_total"]) == (300, 300)
    here = backtest(flow_under_test(FLOW), [parse_candles(csv_text(), "candles", "ETHBTC")], read_spec({"cash": "500"}))
    result = await client.get(f"/backtests/{found['id']}/result")
    assert result.content == here.to_json()
    assert found["figures"] == result.json()["figures"]
    assert (await client.get(f"/backtests/{found['id']}/result", format="csv")).text == here.trades_csv()
    page = await client.get(f"/backtests/{found['id']}/result", format="html")
    assert page.text.startswith("<!doctype html>")
    assert "attachment" in page.headers["content-disposition"]


async def test_amounts_beyond_64_bits_and_a_dataset_as_candles(client: Client) -> None:
    rows = [dict(zip(("time", "open", "high", "low", "close"), row, strict=False)) for row in _rows(60)]
    await client.ok("POST", "/datasets/candles/rows", {"rows": rows})
    quote = "0x00000000000000000000000000000000000000bb"
    market = {"symbol": "ETHBTC", "quote_token": quote}
    more = {"markets": [market], "initial_balances": {quote: "1" + "0" * 30}}
    data = [{"symbol": "ETHBTC", "dataset": "candles"}]
    found = await ended(client, (await client.ok("POST", "/backtests", body(data=data, **more)))["id"])
    assert found["status"] == "completed", found
    assert found["figures"]["initial_equity"] == 1e12


async def test_of_a_dataset_no_more_than_its_candles_is_kept(
    idle: None, client: Client, sessions: SessionFactory
) -> None:
    """A line of a CSV has a cell for each column of any row: other columns would make gigabytes of a quota."""
    rows = [
        {**dict(zip(("Time", "open", "high", "low", " Close"), row, strict=False)), f"other {number}": 1}
        for number, row in enumerate(_rows(60))
    ]
    await client.ok("POST", "/datasets/candles/rows", {"rows": rows})
    await client.ok("POST", "/backtests", body(data=[{"symbol": "ETHBTC", "dataset": "candles"}]))
    async with sessions() as session:
        content = (await session.scalars(select(BacktestFile.content))).one()
    header, *lines = zlib.decompress(content).decode().splitlines()
    assert set(header.split(",")) == {"time", "open", "high", "low", "close"}
    assert len(lines) == 60


def _rows(count: int) -> Iterator[list[Any]]:
    made = generated(count)
    yield from ([int(row[0]), *row[1:]] for row in made.rows(0, count))


@pytest.mark.skipif(os.geteuid() != 0, reason="the sandbox's wall is built by root")
async def test_code_of_the_flow_decides_in_the_sandbox(client: Client) -> None:
    """Cross above, as the condition node says it, in Python: the same trades."""
    code = {"python_code": "output_data = 1 if fast > slow else 0"}
    nodes = [*(n for n in FLOW["nodes"] if n["id"] != "cross"), node("code", "code_node", code)]
    nodes.append(node("cross", "condition_node", {"expression": "above > 0"}))
    averages = [{**e, "target": "code"} if e["target"] == "cross" else e for e in FLOW["edges"]]
    flow = {"nodes": nodes, "edges": [*averages, edge("code", "output_data", "cross", "above")]}
    found = {}
    for name, graph in (("code", flow), ("condition", FLOW)):
        view = await ended(client, (await client.ok("POST", "/backtests", body(flow_json=graph)))["id"])
        assert (view["status"], view["failure"]) == ("completed", None)
        found[name] = (await client.get(f"/backtests/{view['id']}/result")).json()
    assert found["code"]["failures"]["counts"] == []
    fills = [[(trade["cycle"], trade["amount_out"]) for trade in result["trades"]] for result in found.values()]
    assert fills[0] == fills[1]
    assert len(fills[0]) > 2


async def test_a_stored_flow_is_run_in_the_version_asked_for_on_its_own_schedule(
    client: Client, stranger: Client, sessions: SessionFactory, idle: None
) -> None:
    flow = Flow(id=uuid4(), user_id=client.user_id, flow_id="cross", status="stopped", current_version=2)
    async with sessions.begin() as session:
        session.add(flow)
        await session.flush()
        session.add_all(FlowVersion(flow_pk=flow.id, version=version, graph=FLOW) for version in (1, 2))
        session.add(Schedule(flow_pk=flow.id, cycle_interval="10m"))
    asked = {"flow_id": "cross", "data": body()["data"]}
    newest = await client.ok("POST", "/backtests", asked)
    assert (newest["version"], newest["progress"]["cycles_total"]) == (2, 150)
    older = await client.ok("POST", "/backtests", {**asked, "version": 1, "cycle_interval": "candle"})
    assert (older["version"], older["progress"]["cycles_total"]) == (1, 300)
    for caller, wanted in ((client, {**asked, "version": 3}), (stranger, asked)):
        answer = await caller.post("/backtests", wanted)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"data": [{"symbol": "ETHBTC", "csv": "a,b\n1,2"}]}, "invalid_candles"),
        ({"data": [{"symbol": "ETHBTC"}]}, "invalid_request"),
        ({"data": []}, "invalid_request"),
        ({"flow_id": "both"}, "invalid_request"),
        ({"cycle_interval": "soon"}, "invalid_interval"),
        ({"cycle_interval": 0.001}, "invalid_interval"),
        ({"cycle_interval": True}, "invalid_request"),
        ({"markets": [{"symbol": "ETH\x00BTC"}]}, "invalid_request"),
        ({"flow_json": {"nodes": [{"id": "a", "type": "no_node"}], "edges": []}}, "unknown_node_type"),
        ({"data": [
            {"symbol": "X", "csv": "time,open,high,low,close\n1700000000000,1,1,1,1\n9999999999999999,1,1,1,1"}]},
         "candles_out_of_time"),
        ({"data": [{"symbol": "ETHBTC", "csv": "time,open,high,low,close\n0,1,1,1,1\n86400,1,1,1,1\n31536000,1,1,1,1"}],
          "cycle_interval": "10s"}, "too_many_cycles"),
    ],
)  # fmt: skip
async def test_what_cannot_run_is_refused_before_it_is_queued(client: Client, more: dict[str, Any], error: str) -> None:
    answer = await client.post("/backtests", body(**more))
    assert (answer.status_code, answer.json()["error"]) == (422, error), answer.text
    assert (await client.ok("GET", "/backtests"))["items"] == []


async def test_a_user_has_few_open_at_a_time_and_pages_through_them(idle: None, client: Client) -> None:
    for _ in range(store.MAX_OPEN):
        await client.ok("POST", "/backtests", body())
    answer = await client.post("/backtests", body())
    assert (answer.status_code, answer.json()["error"]) == (429, "backtest_quota")
    page = await client.ok("GET", "/backtests?limit=3")
    rest = await client.ok("GET", f"/backtests?limit=3&cursor={page['next_cursor']}")
    assert [len(page["items"]), len(rest["items"]), rest["next_cursor"]] == [3, 2, None]
    identity = page["items"][0]["id"]
    assert (await client.get(f"/backtests/{identity}/result")).json()["error"] == "backtest_not_completed"
    assert (await client.ok("POST", f"/backtests/{identity}/cancel"))["status"] == "cancelled"
    assert (await client.post("/backtests", body())).status_code == 202


async def test_a_list_is_read_without_the_flows_of_its_backtests(sessions: SessionFactory, queued: UUID) -> None:
    """A hundred of them may hold a hundred megabytes, and the list shows none."""
    async with sessions() as session:
        owner = (await only_job(sessions)).user_id
        (job,) = await store.list_jobs(session, owner, None, 10)
        assert "request" in inspect(job).unloaded
        assert (await store.get(session, owner, job.id)).status == "queued"


async def test_two_requests_at_once_do_not_pass_the_quota(
    sessions: SessionFactory, add_user: Callable[[], Any]
) -> None:
    owner = await add_user()
    added = await asyncio.gather(*(submit(sessions, owner) for _ in range(2 * store.MAX_OPEN)), return_exceptions=True)
    assert sum(isinstance(one, TooManyRequests) for one in added) == store.MAX_OPEN


async def test_of_two_workers_one_gets_a_backtest_and_the_other_when_its_lease_has_passed(
    sessions: SessionFactory, queued: UUID
) -> None:
    claims = await asyncio.gather(*(claim(sessions, NOW) for _ in range(4)))
    first = next(one for one in claims if one is not None)
    assert [one for one in claims if one is not None] == [first]
    assert await claim(sessions, NOW + store.LEASE) is None
    second = await claim(sessions, NOW + store.LEASE + timedelta(seconds=1))
    assert second is not None
    assert (second.number, second.attempt) == (first.number, 2)
    async with sessions.begin() as session:
        assert not await store.renew(session, first, NOW, 1)
        assert not await store.complete(session, first, NOW, {"late": 1}, {"result.json": b"late"})
        assert await store.complete(session, second, NOW, {"a": 1}, {"result.json": b"a"})
        assert not await store.complete(session, second, NOW, {"twice": 1}, {"result.json": b"twice"})
    async with sessions() as session:
        assert (await session.scalars(select(BacktestFile.content))).all() == [b"a"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_owners_take_turns_however_many_each_has_queued(
    sessions: SessionFactory, queued: UUID, add_user: Callable[[], Any], workers: int
) -> None:
    """With a second worker the first one's backtest goes on meanwhile; else each ends before the next begins."""
    modest = await add_user()
    for owner in (queued, queued, modest, modest):
        await submit(sessions, owner)
    served = []
    for turn in range(5):
        claimed = await claim(sessions, NOW + timedelta(seconds=turn))
        assert claimed is not None
        async with sessions.begin() as session:
            served.append(await session.scalar(select(BacktestJob.user_id).where(BacktestJob.number == claimed.number)))
            if workers == 1 or turn:
                assert await store.complete(session, claimed, NOW, {}, {})
    expected = {1: [queued, modest, queued, modest, queued], 2: [queued, modest, modest, queued, queued]}
    assert served == expected[workers]


async def test_one_that_ends_its_worker_again_and_again_is_failed(sessions: SessionFactory, queued: UUID) -> None:
    now = NOW
    for _ in range(store.MAX_ATTEMPTS):
        assert await claim(sessions, now) is not None
        now += store.LEASE + timedelta(seconds=1)
    assert await claim(sessions, now) is None
    assert (await only_job(sessions)).failure_code == "backtest_abandoned"


async def test_a_cancelled_one_is_stopped_and_its_result_not_kept(
    sessions: SessionFactory, queued: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "RENEW_S", 0.01)
    stopped: list[int | None] = []
    real = runner._process

    @asynccontextmanager
    async def process(folder: Any) -> Any:
        async with real(folder) as found:
            async with sessions.begin() as session:
                await session.execute(update(BacktestJob).values(status="cancelled"))
            yield found
        stopped.append(found.returncode)

    monkeypatch.setattr(runner, "_process", process)
    assert await BacktestRunner(sessions, SystemClock(), SandboxPlan()).run_one()
    assert stopped == [-9]
    assert (await only_job(sessions)).status == "cancelled"


async def test_a_worker_that_ends_in_good_order_gives_it_back(
    settings: WorkerSettings, sessions: SessionFactory, queued: UUID
) -> None:
    running = asyncio.create_task(BacktestRunner(sessions, SystemClock(), SandboxPlan()).run())

    async def is_running() -> bool:
        return (await only_job(sessions)).status == "running"

    await until(is_running)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    job = await only_job(sessions)
    assert (job.status, job.attempt) == ("queued", 0)
    assert await BacktestRunner(sessions, SystemClock(), SandboxPlan()).run_one()
    assert (await only_job(sessions)).status == "completed"


async def test_a_backtest_ends_with_its_worker_and_leaves_nothing(tmp_path: Path) -> None:
    """A stand-in for a worker begins the process as the runner does, and is killed before it can clean up."""
    folder = tmp_path / "job"
    folder.mkdir()
    fifo = folder / "request.json"
    os.mkfifo(fifo)  # the process waits here, at work on its request
    worker = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from tradingflow.py_worker.backtests.runner import _process

        async def main():
            async with _process(Path({str(folder)!r})):
                print(flush=True)
                await asyncio.sleep(600)

        asyncio.run(main())
    """)
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", worker, stdout=asyncio.subprocess.PIPE)
    assert killed.stdout is not None
    await killed.stdout.readline()

    writers: list[int] = []

    async def at_work() -> bool:
        with suppress(OSError):  # nobody reads yet
            writers.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(writers)

    await until(at_work)
    killed.kill()
    await killed.wait()

    async def gone() -> bool:
        try:
            os.write(writers[0], b" ")
        except BrokenPipeError:
            return not folder.exists()
        return False

    await until(gone)
    os.close(writers[0])


async def test_code_of_a_backtest_runs_as_the_user_the_worker_names(
    sessions: SessionFactory, queued: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    real = runner._process

    def process(folder: Path) -> Any:
        begun.append(json.loads((folder / "request.json").read_bytes())["sandbox"])
        return real(folder)

    monkeypatch.setattr(runner, "_process", process)
    plan = SandboxPlan(user_id=64_123, processes=9, accept_missing=frozenset({"seccomp"}))
    assert await BacktestRunner(sessions, SystemClock(), plan).run_one()
    assert [read_plan(fields) for fields in begun] == [SandboxPlan(user_id=64_123, accept_missing=plan.accept_missing)]


async def test_a_process_that_breaks_fails_its_backtest_only(
    sessions: SessionFactory, queued: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sessions.begin() as session:
        await session.execute(update(BacktestFile).values(content=b""))
    monkeypatch.setattr(store, "candles", _no_candles)
    assert await BacktestRunner(sessions, SystemClock(), SandboxPlan()).run_one()
    assert (await only_job(sessions)).failure_code == "backtest_broke"
    assert not await BacktestRunner(sessions, SystemClock(), SandboxPlan()).run_one()


async def _no_candles(*_: Any) -> dict[str, bytes]:
    return {}


async def test_a_stranger_finds_nothing(worker: FastAPI, idle: None, client: Client, stranger: Client) -> None:
    identity = (await client.ok("POST", "/backtests", body()))["id"]
    assert (await stranger.ok("GET", "/backtests"))["items"] == []
    for path in (f"/backtests/{identity}", f"/backtests/{identity}/result", f"/backtests/{uuid4()}"):
        assert (await stranger.get(path)).status_code == 404
    assert (await stranger.post(f"/backtests/{identity}/cancel")).status_code == 404


async def test_deleting_one_deletes_its_files(idle: None, client: Client, sessions: SessionFactory) -> None:
    identity = (await client.ok("POST", "/backtests", body()))["id"]
    answer = await client.http.delete(f"/backtests/{identity}", headers=client.headers)
    assert answer.status_code == 204
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(BacktestFile)) == 0
