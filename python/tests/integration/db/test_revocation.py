"""Sessions that ended, as a process knows them: by notification, and by asking while it hears nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.integration.wrong_clock import step_ahead
from tradingflow.core.clock import SimulatedClock
from tradingflow.db import revocation
from tradingflow.db.clock import DatabaseClock
from tradingflow.db.engine import SessionFactory, make_session_factory
from tradingflow.db.models import AuthSession, User
from tradingflow.db.revocation import REMEMBERED, RevokedSessions

WITHIN_S = 10.0
LISTENING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"


@pytest.fixture
def sessions(engine: AsyncEngine) -> SessionFactory:
    return make_session_factory(engine)


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(datetime.now(UTC))


@pytest.fixture
async def living(sessions: SessionFactory) -> UUID:
    """A session that goes on."""
    user_id, session_id, now = uuid4(), uuid4(), datetime.now(UTC)
    async with sessions.begin() as session:
        session.add(User(id=user_id))
        await session.flush()
        times = {"last_used_at": now, "expires_at": now + timedelta(days=1)}
        session.add(AuthSession(id=session_id, user_id=user_id, wallet_address="0x" + "0" * 40, **times))
    return session_id


@pytest.fixture
async def known(engine: AsyncEngine, clock: SimulatedClock) -> AsyncIterator[RevokedSessions]:
    """What one process knows, following already."""
    known = RevokedSessions(engine, clock)
    watching = asyncio.create_task(known.watch())
    await until_follows(engine, known)
    yield known
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


async def until_follows(engine: AsyncEngine, known: RevokedSessions) -> None:
    """It does once an answer costs no query."""

    async def follows() -> bool:
        with Queries(engine) as queries:
            await known.contains(uuid4())
        return queries.count == 0

    await until(follows)


async def until(probe: Any) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await probe():  # noqa: ASYNC110 - what is heard over a connection sets no event
            await asyncio.sleep(0.02)


class Queries:
    """Counts what is sent to the database while inside."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.sync_engine
        self.count = 0

    def __enter__(self) -> Self:
        event.listen(self._engine, "before_cursor_execute", self._sent)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._sent)

    def _sent(self, *_: object) -> None:
        self.count += 1


async def end(engine: AsyncEngine, clock: SimulatedClock, session_id: UUID) -> None:
    """As another process ends it."""
    elsewhere = RevokedSessions(engine, clock)
    async with make_session_factory(engine).begin() as session:
        await session.execute(update(AuthSession).where(AuthSession.id == session_id).values(revoked_at=clock.now()))
        await elsewhere.announce(session, session_id)


async def listening_process(sessions: SessionFactory) -> int:
    async with sessions() as session:
        return int((await session.execute(text(LISTENING))).scalar_one())


async def test_the_end_of_a_session_is_heard_from_another_process_and_costs_no_query_a_request(
    engine: AsyncEngine, clock: SimulatedClock, known: RevokedSessions, living: UUID
) -> None:
    with Queries(engine) as queries:
        assert not await known.contains(living)
    assert queries.count == 0
    await end(engine, clock, living)
    await until(lambda: known.contains(living))


async def test_who_does_not_follow_asks_the_database(engine: AsyncEngine, clock: SimulatedClock, living: UUID) -> None:
    deaf = RevokedSessions(engine, clock)
    assert not await deaf.contains(living)
    await end(engine, clock, living)
    assert await deaf.contains(living)


async def test_a_machine_a_day_ahead_still_knows_what_ended_just_now(
    engine: AsyncEngine, clock: SimulatedClock, living: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end(engine, clock, living)
    step_ahead(monkeypatch)
    known = RevokedSessions(engine, DatabaseClock(engine))
    await known._read_ended()
    assert living in known._ended


async def cut_off(sessions: SessionFactory) -> None:
    backend = await listening_process(sessions)
    async with sessions() as session:
        await session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})


async def test_who_lost_its_connection_asks_the_database(
    engine: AsyncEngine,
    clock: SimulatedClock,
    known: RevokedSessions,
    living: UUID,
    sessions: SessionFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(revocation, "RETRY_S", 600.0)
    await cut_off(sessions)
    await end(engine, clock, living)
    await until(lambda: known.contains(living))


async def test_who_follows_again_knows_what_ended_meanwhile(
    engine: AsyncEngine, clock: SimulatedClock, known: RevokedSessions, living: UUID, sessions: SessionFactory
) -> None:
    await cut_off(sessions)
    await end(engine, clock, living)
    await until(lambda: known.contains(living))
    await until_follows(engine, known)
    assert await known.contains(living)


async def test_a_connection_that_hangs_is_noticed(
    engine: AsyncEngine, clock: SimulatedClock, known: RevokedSessions, living: UUID, sessions: SessionFactory
) -> None:
    backend = await listening_process(sessions)
    os.kill(backend, signal.SIGSTOP)
    try:
        await end(engine, clock, living)
        await until(lambda: known.contains(living))
    finally:
        os.kill(backend, signal.SIGCONT)


async def test_a_session_whose_row_is_gone_is_remembered_for_as_long_as_a_token_may_live(
    engine: AsyncEngine, clock: SimulatedClock, known: RevokedSessions
) -> None:
    first, second = uuid4(), uuid4()
    for deleted in (first, second):
        await end(engine, clock, deleted)
        await until(lambda deleted=deleted: known.contains(deleted))
        clock.advance_to(clock.now() + timedelta(seconds=1))
    clock.advance_to(clock.now() - timedelta(seconds=1) + REMEMBERED)

    async def forgot_the_first() -> bool:
        return not await known.contains(first)

    await until(forgot_the_first)
    assert await known.contains(second)
