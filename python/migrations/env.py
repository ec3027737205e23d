"""Alembic's entry: one metadata, the database of the settings, one migration run at a time."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from tradingflow.core.config import PlatformSettings
from tradingflow.db.engine import make_engine
from tradingflow.db.models import Base

# Any fixed number: two services that migrate at the same moment take turns.
MIGRATION_LOCK = 7_000_001


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        context.run_migrations()


async def _migrate() -> None:
    engine = make_engine(PlatformSettings(), application="migrate", pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run)
            await connection.commit()
    finally:
        await engine.dispose()


asyncio.run(_migrate())
