"""A replay runs its owner's code while a client waits: what it may take of a worker that others need as well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.worker.conftest import Client, until
from tests.integration.worker.nodes import Sleep
from tradingflow.db.engine import SessionFactory
from tradingflow.py_worker.replay import endpoints

PATH = "/flows/f/cycles/0/replay"
SLOW = {"flow_json": {"nodes": [{"id": "b", "type": "sleep", "config": {"seconds": 50}}], "edges": []}}


async def record(client: Client) -> None:
    await client.execute("f", [{"id": "a", "type": "emit"}], [])
    await client.cycle_end("f")


@asynccontextmanager
async def replaying(client: Client) -> AsyncIterator[asyncio.Task[Any]]:
    """While inside, a node of the user's replay runs, unless the replay ended."""
    before = len(Sleep.started)
    task = asyncio.create_task(client.post(PATH, SLOW))

    async def is_running() -> bool:
        return len(Sleep.started) > before

    try:
        await until(is_running)
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_no_transaction_is_open_while_a_replay_runs(client: Client, sessions: SessionFactory) -> None:
    await record(client)

    async def database_time() -> Any:
        async with sessions() as session:
            return await session.scalar(text("SELECT clock_timestamp()"))

    before = await database_time()
    async with replaying(client) as replay:
        span = {"before": before, "after": await database_time()}
        began_then = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'py_worker' AND xact_start BETWEEN :before AND :after"
        )

        async def none_is_open() -> bool:
            async with sessions() as session:
                return not await session.scalar(began_then, span)

        await until(none_is_open)
        assert not replay.done(), "a transaction was open until the replay had ended"


async def test_a_user_has_one_replay_at_a_time(client: Client, stranger: Client) -> None:
    for each in (client, stranger):
        await record(each)
    async with replaying(client):
        refused = await client.post(PATH)
        assert (refused.status_code, refused.json()["error"]) == (429, "replay_busy")
        assert int(refused.headers["retry-after"]) > 0
        assert (await stranger.post(PATH)).status_code == 200
    assert (await client.post(PATH)).status_code == 200


async def test_a_replay_that_takes_too_long_is_ended_and_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(client)
    monkeypatch.setattr(endpoints, "LONGEST_S", 0.5)
    before = len(Sleep.cancelled)
    answer = await client.post(PATH, SLOW)
    assert (answer.status_code, answer.json()["error"]) == (422, "replay_too_long")
    assert len(Sleep.cancelled) == before + 1
    monkeypatch.undo()
    assert (await client.post(PATH)).status_code == 200
