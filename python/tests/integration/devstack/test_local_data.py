"""A new local chain must not meet another chain's data, and data that is not ours must never be thrown away."""

import asyncio

import pytest
import redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from devstack.endpoints import Endpoints
from devstack.errors import DevstackError
from devstack.main_job.local_data import LocalData


@pytest.fixture
def endpoints(database_url: str, redis_url: str) -> Endpoints:
    return Endpoints(database_url, redis_url, "amqp://unused", "http://unused")


def _tables(database_url: str) -> int:
    async def count() -> int:
        engine = create_async_engine(database_url)
        async with engine.connect() as connection:
            found = await connection.scalar(
                text("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'")
            )
        await engine.dispose()
        return int(found or 0)

    return asyncio.run(count())


def test_our_own_data_of_an_earlier_chain_is_removed(endpoints: Endpoints) -> None:
    said: list[str] = []
    with redis.Redis.from_url(endpoints.redis_url) as client:
        client.set("left", "over")
        LocalData(endpoints, disposable=True).forget_other_chains(fresh=True, say=said.append)
        assert client.get("left") is None
    assert _tables(endpoints.database_url) == 0
    assert said


def test_data_of_the_same_chain_is_kept(endpoints: Endpoints) -> None:
    LocalData(endpoints, disposable=True).forget_other_chains(fresh=False, say=print)
    assert _tables(endpoints.database_url) > 0


def test_a_database_somebody_else_runs_is_refused_and_untouched(endpoints: Endpoints) -> None:
    before = _tables(endpoints.database_url)
    with pytest.raises(DevstackError, match="SERVICES=native"):
        LocalData(endpoints, disposable=False).forget_other_chains(fresh=True, say=print)
    assert _tables(endpoints.database_url) == before
