"""What every other integration test leans on: real, empty servers of its own."""

import aio_pika
import asyncpg
import pytest
from redis.asyncio import Redis

from devstack.anvil import Anvil


def plain_dsn(database_url: str) -> str:
    """The form asyncpg itself understands."""
    return database_url.replace("+asyncpg", "")


async def test_the_database_of_a_test_has_all_migrations_applied(database_url: str) -> None:
    connection = await asyncpg.connect(plain_dsn(database_url))
    try:
        assert await connection.fetchval("SELECT count(*) FROM alembic_version") == 1
    finally:
        await connection.close()


async def test_the_empty_database_has_no_table(empty_database_url: str) -> None:
    connection = await asyncpg.connect(plain_dsn(empty_database_url))
    try:
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert tables == 0
    finally:
        await connection.close()


@pytest.mark.parametrize("turn", [1, 2])
async def test_a_key_of_another_test_is_not_seen(redis_url: str, turn: int) -> None:
    async with Redis.from_url(redis_url) as client:
        assert await client.get("seen") is None
        await client.set("seen", turn)


@pytest.mark.parametrize("turn", [1, 2])
async def test_a_queue_of_another_test_is_not_seen(rabbitmq_url: str, turn: int) -> None:
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("seen", durable=True)
        assert queue.declaration_result.message_count == 0
        await channel.default_exchange.publish(aio_pika.Message(b"here"), routing_key="seen")


@pytest.mark.parametrize("turn", [1, 2])
def test_a_block_of_another_test_is_not_seen(anvil: Anvil, turn: int) -> None:
    assert anvil.rpc("eth_blockNumber") == "0x0"
    anvil.rpc("evm_mine")
