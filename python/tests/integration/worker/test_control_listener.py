"""A worker whose connection for control was lost follows what was changed meanwhile, however it was lost."""

from __future__ import annotations

import os
import signal

import pytest
from fastapi import FastAPI
from sqlalchemy import select, text, update

from tests.integration.worker.conftest import Client, until
from tests.integration.worker.nodes import edge, node
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Flow
from tradingflow.py_worker import control

LISTENING = text(
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'py_worker control' AND datname = current_database()"
)


async def listening_process(sessions: SessionFactory) -> int:
    async with sessions() as session:
        return int((await session.execute(LISTENING)).scalar_one())


async def hold(worker: FastAPI, client: Client, sessions: SessionFactory) -> None:
    """A cycle that only holds: its first node has ended, the second is paused."""
    nodes = [node("first", "emit"), node("second", "pass")]
    by_hand = {"cycle_interval": None, "trigger": {"type": "manual"}}
    await client.execute("held", nodes, [edge("first", "second")], **by_hand)
    await client.ok("POST", "/flows/held/nodes/second/pause")
    await client.ok("POST", "/flows/held/cycles")
    async with sessions() as session:
        flow_pk = (await session.scalars(select(Flow.id))).one()
    conductor = worker.state.parts.worker.conductor

    async def holds() -> bool:
        return any(live.held for live in conductor.live_of_flow(flow_pk))

    await until(holds)


async def resume_unheard(sessions: SessionFactory) -> None:
    async with sessions.begin() as session:
        await session.execute(update(Flow).values(paused_nodes=[]))


async def test_a_resume_that_was_missed_is_caught_up_on(
    worker: FastAPI, client: Client, sessions: SessionFactory
) -> None:
    await hold(worker, client, sessions)
    await resume_unheard(sessions)
    lost = await listening_process(sessions)
    async with sessions() as session:
        await session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": lost})
    assert (await client.cycle_end("held"))["status"] == "completed"


async def test_a_connection_that_is_gone_without_a_word_is_given_up(
    worker: FastAPI, client: Client, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PING_TIMEOUT_S", 1.0)
    await hold(worker, client, sessions)
    await resume_unheard(sessions)
    silent = await listening_process(sessions)
    os.kill(silent, signal.SIGSTOP)
    try:
        assert (await client.cycle_end("held"))["status"] == "completed"
    finally:
        os.kill(silent, signal.SIGCONT)
