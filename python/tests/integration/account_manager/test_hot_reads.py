"""Routes that go past FastAPI's machinery refuse what they should, and live through a lost database connection."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy import Integer, column, func, select, text

from tests.integration.account_manager.conftest import Session
from tradingflow.account_manager.parts import Parts
from tradingflow.db.engine import SessionFactory
from tradingflow.db.reads import PreparedRead


async def test_a_parameter_nobody_knows_is_refused_instead_of_ignored(alice: Session) -> None:
    answer = await alice.get("/trades", statsu="failed")
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid_request")
    assert "query.statsu" in answer.json()["detail"]
    limit = await alice.get("/trades", limit=501)
    assert limit.status_code == 422
    assert "query.limit" in limit.json()["detail"]


async def test_without_a_token_or_with_another_method_nothing_is_read(alice: Session) -> None:
    for path in ("/users/me", "/portfolio", "/trades"):
        anonymous = await alice.http.get(path)
        assert (anonymous.status_code, anonymous.json()["error"]) == (401, "missing_token")
        basic = await alice.http.get(path, headers={"Authorization": f"Basic {alice.access_token}"})
        assert basic.status_code == 401
        assert (await alice.request("PUT", path)).status_code == 405


async def test_a_read_is_asked_again_when_its_connection_was_lost(alice: Session, sessions: SessionFactory) -> None:
    assert (await alice.get("/users/me")).status_code == 200
    async with sessions() as session:
        ended = await session.scalars(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'account_manager_reads' AND datname = current_database()"
            )
        )
        assert list(ended) == [True]
    assert (await alice.get("/users/me")).status_code == 200


async def test_the_pool_of_reads_cannot_write(parts: Parts) -> None:
    write = PreparedRead(select(func.nextval(column("'outbox_id_seq'", Integer, is_literal=True))))
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await parts.hot.fetch(write)
