"""Yours is yours: every route of the Worker that takes an id, asked by a stranger. From the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from sqlalchemy import select

from tests.integration.worker.conftest import Client, until
from tests.integration.worker.nodes import node
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Approval, BacktestJob, DeadLetter, Flow, FlowLog

# The token is the credential; whoever has it may call, signed in or not.
PUBLIC = {("POST", "/hooks/{token}")}
# Names are the owner's own: who writes under one of mine gets one of theirs.
OWN_NAMES = {
    ("PUT", "/flows/{flow_id}"),
    ("PUT", "/datasets/{name}/file"),
    ("POST", "/datasets/{name}/rows"),
    ("PUT", "/paper/vaults/{chain_id}/{address}"),
}
PAPER_VAULT = {"chain_id": "31337", "address": "0x" + "aa" * 20}
FLOW_JSON = {"nodes": [node("n", "emit")], "edges": []}
BODIES: dict[str, Any] = {
    "rows": {"rows": [{"a": 1}]},
    "{approval_id}": {"approved": True},
    "partial-run": {"scope": "node", "node_id": "n"},
    "{flow_id}": {"flow_id": "mine", "cycle_interval": None, "trigger": {"type": "webhook"}, "flow_json": FLOW_JSON},
}


def id_routes(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, operations in document["paths"].items():
        if "{" in path:
            yield from ((method.upper(), path) for method in operations)


@pytest.fixture
async def ids(client: Client, sessions: SessionFactory) -> dict[str, str]:
    """One id of the client's for every path parameter."""
    webhook: dict[str, Any] = {"cycle_interval": None, "trigger": {"type": "webhook"}}
    await client.execute("mine", FLOW_JSON["nodes"], [], **webhook)
    await client.ok("POST", "/flows/mine/cycles")
    await client.cycle_end("mine")
    await client.ok("POST", "/datasets/mine/rows", BODIES["rows"])
    paper_vault = "/paper/vaults/{chain_id}/{address}".format(**PAPER_VAULT)
    await client.ok("PUT", paper_vault, {"balances": {}, "policy": {"routers": {}, "tokens": {}}})
    async with sessions.begin() as session:
        flow = (await session.scalars(select(Flow))).one()
        log = (await session.scalars(select(FlowLog))).first()
        letter = DeadLetter(flow_pk=flow.id, cycle=0, message_id="m", routing_key="r", body=b"{}", reason="x")
        approval = Approval(
            id=uuid4(),
            user_id=client.user_id,
            flow_pk=flow.id,
            cycle=0,
            node_id="n",
            question="?",
            on_timeout="reject",
            expires_at=datetime.now(UTC),
        )
        backtest = BacktestJob(id=uuid4(), user_id=client.user_id, request={}, status="failed", cycles_total=1)
        session.add_all([letter, approval, backtest])
    assert log is not None
    return {
        "flow_id": "mine",
        "cycle": "0",
        "component": "0",
        "node": "n",
        "task": "mine_0_n",
        "log_id": str(log.id),
        "letter": str(letter.id),
        "name": "mine",
        "approval_id": str(approval.id),
        "backtest_id": str(backtest.id),
        **PAPER_VAULT,
    }


async def ask(caller: Client, method: str, path: str, ids: dict[str, str]) -> tuple[int, str]:
    """Status and error code; the endless stream is only opened by strangers."""
    body = BODIES.get(path.rsplit("/", 1)[-1]) if method in ("POST", "PUT") else None
    answer = await caller.http.request(method, path.format(**ids), json=body, headers=caller.headers)
    return answer.status_code, "" if answer.status_code < 400 else answer.json()["error"]


async def test_every_route_with_an_id_is_a_404_for_a_stranger(
    worker: FastAPI, client: Client, stranger: Client, ids: dict[str, str]
) -> None:
    routes = set(id_routes(worker.openapi()))
    private = sorted(routes - PUBLIC - OWN_NAMES)
    assert len(private) >= 30
    for method, path in private:
        assert await ask(stranger, method, path, ids) == (404, "not_found"), f"{method} {path}"
    # The ids were real: to their owner they exist. Deleting comes last.
    for method, path in sorted(private, key=lambda route: (route[0] == "DELETE", route[1] == "/flows/{flow_id}")):
        if not path.endswith("/stream"):
            status, error = await ask(client, method, path, ids)
            assert status not in (404, 500), f"{method} {path}: {status} {error}"


async def test_a_stranger_who_puts_a_flow_of_that_name_gets_a_flow_of_their_own(
    client: Client, stranger: Client, ids: dict[str, str]
) -> None:
    """Flow ids are the owner's own names; both may have one called `mine`."""
    assert await ask(stranger, "PUT", "/flows/{flow_id}", ids) == (200, "")
    assert (await stranger.ok("GET", "/flows/mine/cycles"))["items"] == []
    assert len((await client.ok("GET", "/flows/mine/cycles"))["items"]) == 1


async def test_a_stranger_who_writes_to_a_dataset_of_that_name_gets_one_of_their_own(
    client: Client, stranger: Client, ids: dict[str, str]
) -> None:
    assert await ask(stranger, "POST", "/datasets/{name}/rows", ids) == (200, "")
    assert (await client.ok("GET", "/datasets/mine"))["rows"] == 1


async def test_every_route_but_the_open_ones_wants_a_token(
    worker: FastAPI, client: Client, ids: dict[str, str]
) -> None:
    open_ = {"/health", "/health/ready", "/metrics", "/nodes/types", "/hooks/{token}"}
    for path, operations in worker.openapi()["paths"].items():
        for method in operations if path not in open_ else ():
            answer = await client.http.request(method.upper(), path.format(**ids))
            assert (answer.status_code, answer.json()["error"]) == (401, "missing_token"), f"{method} {path}"


async def test_a_stranger_finds_nothing_of_mine_in_any_list(
    client: Client, stranger: Client, ids: dict[str, str]
) -> None:
    await client.execute("slow", [node("s", "sleep", {"seconds": 60})], [])
    await until(lambda: _lists_running(client))
    assert (await stranger.ok("GET", "/flows"))["items"] == []
    assert (await stranger.ok("GET", "/datasets"))["items"] == []
    assert (await stranger.ok("GET", "/approvals?status=all"))["items"] == []
    assert (await stranger.ok("GET", "/backtests"))["items"] == []
    assert await stranger.ok("GET", "/nodes") == []
    assert await stranger.ok("GET", "/worker/nodes") == []
    await client.ok("POST", "/flows/slow/stop")


async def _lists_running(client: Client) -> bool:
    return bool(await client.ok("GET", "/nodes"))
