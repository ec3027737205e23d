"""Every kind of connection the services make has the server notice soon that its machine is gone."""

from __future__ import annotations

from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.core.config import PlatformSettings
from tradingflow.db.engine import KEEPALIVES
from tradingflow.db.reads import open_read_pool
from tradingflow.py_worker.runtime.connection import KeptConnection


async def test_a_machine_without_power_loses_its_locks_after_a_minute(engine: AsyncEngine, database_url: str) -> None:
    asked = ", ".join(f"current_setting('{name}')" for name in KEEPALIVES)
    async with engine.connect() as connection:
        (of_engine,) = await connection.execute(text(f"SELECT {asked}"))
    kept = KeptConnection(engine.url, "test")
    async with kept.use() as driver:
        of_kept = await driver.fetchrow(f"SELECT {asked}")
    await kept.close()
    settings = PlatformSettings(database_url=SecretStr(database_url))
    async with open_read_pool(settings, application="test") as reads, reads._pool.acquire() as driver:
        of_reads = await driver.fetchrow(f"SELECT {asked}")
    assert tuple(of_engine) == tuple(of_kept) == tuple(of_reads) == ("30", "10", "3")
