"""Migrations and models say the same, on the way up and on the way down."""

from __future__ import annotations

import asyncio
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tradingflow.db.models import Base


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
    found: list[Any] = compare_metadata(context, Base.metadata)
    return found


async def read(engine: AsyncEngine, question: Any) -> Any:
    async with engine.connect() as connection:
        return await connection.run_sync(question)


async def test_migrated_tables_are_the_models_and_go_away_again(empty_database_url: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    engine = create_async_engine(empty_database_url)
    try:
        await asyncio.to_thread(command.upgrade, Config("alembic.ini"), "head")
        assert await read(engine, differences) == []
        await asyncio.to_thread(command.downgrade, Config("alembic.ini"), "base")
        assert await read(engine, lambda c: inspect(c).get_table_names()) == ["alembic_version"]
        await asyncio.to_thread(command.upgrade, Config("alembic.ini"), "head")
        assert await read(engine, differences) == []
    finally:
        await engine.dispose()
