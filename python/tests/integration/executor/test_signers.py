"""Which operators the other services are told of: those an executor holds the key of, and no longer than that."""

from collections.abc import AsyncIterator, Collection

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from tradingflow.account_manager.relayer import repository
from tradingflow.account_manager.vault.repository import operator_address
from tradingflow.db.engine import SessionFactory, make_session_factory
from tradingflow.db.models import Signer
from tradingflow.operation.vault_operators import read_registered
from tradingflow.py_worker.preflight import store

HERE, ELSEWHERE = 1, 2
OLD, NEW = "0x1111111111111111111111111111111111111111", "0x2222222222222222222222222222222222222222"


@pytest.fixture
async def sessions(database_url: str) -> AsyncIterator[SessionFactory]:
    engine = create_async_engine(database_url)
    yield make_session_factory(engine)
    await engine.dispose()


async def starts_with(sessions: SessionFactory, *keys: str, chains: Collection[int] = (HERE, ELSEWHERE)) -> None:
    """An executor starts that holds these keys."""
    async with sessions() as session, session.begin():
        await repository.hold_signers(session, chains, keys)


async def told(sessions: SessionFactory, chain_id: int = HERE) -> set[str]:
    """Whom every service takes for an operator of ours: the API, the preflight and the doctor."""
    async with sessions() as session:
        preflight = (await store.operators(session)).get(chain_id, frozenset())
        doctor = await read_registered(await session.connection(), chain_id)
        offered = await operator_address(session, chain_id)
    assert set(doctor.signers) == preflight
    assert offered == min(preflight, default=None)
    return set(preflight)


async def test_a_key_that_was_taken_out_is_named_by_nobody(sessions: SessionFactory) -> None:
    await starts_with(sessions, OLD, NEW)
    assert await told(sessions) == {OLD, NEW}
    await starts_with(sessions, NEW)
    assert await told(sessions) == {NEW}
    await starts_with(sessions)
    assert await told(sessions) == set()


async def test_its_nonce_outlasts_it_and_is_gone_on_with_when_it_comes_back(sessions: SessionFactory) -> None:
    await starts_with(sessions, OLD)
    async with sessions() as session, session.begin():
        await repository.begin_nonces(session, HERE, OLD, 7)
    await starts_with(sessions, NEW)
    await starts_with(sessions, OLD)
    assert await told(sessions) == {OLD}
    async with sessions() as session:
        assert await repository.next_nonce(session, HERE, OLD) == 7


async def test_when_it_was_taken_out_does_not_change_with_later_starts(sessions: SessionFactory) -> None:
    await starts_with(sessions, OLD)
    async with sessions() as session:
        query = select(Signer.retired_at).where(Signer.chain_id == HERE, Signer.address == OLD)
        await starts_with(sessions, NEW)
        first = await session.scalar(query)
        await starts_with(sessions, NEW)
        assert first is not None
        assert await session.scalar(query) == first


async def test_chains_the_executor_does_not_serve_are_not_its_business(sessions: SessionFactory) -> None:
    await starts_with(sessions, OLD)
    await starts_with(sessions, NEW, chains=(HERE,))
    assert await told(sessions, ELSEWHERE) == {OLD}
