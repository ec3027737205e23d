"""Migrations and models say the same, on the way up and on the way down."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
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


@pytest.fixture
async def newer(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncEngine]:
    """A database on which a release to come has run a migration of its own."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    engine = create_async_engine(database_url)
    await revise(engine, "9000")
    yield engine
    await engine.dispose()


async def revise(engine: AsyncEngine, revision: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


async def alembic(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "alembic", *arguments, "upgrade", "head"]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)


async def test_a_release_goes_back_on_the_database_of_the_next_one(newer: AsyncEngine) -> None:
    done = await alembic("-x", "newer=accept")
    assert done.returncode == 0, done.stderr
    assert "a later release has migrated this database to 9000" in done.stdout
    assert await read(newer, lambda c: MigrationContext.configure(c).get_current_revision()) == "9000"


async def test_a_newer_database_is_refused_where_nobody_said_that_it_is_fine(newer: AsyncEngine) -> None:
    assert (await alembic()).returncode != 0


@pytest.mark.parametrize("revision", ["0000", "of_a_branch"])
async def test_a_revision_that_is_unknown_and_not_newer_is_refused(newer: AsyncEngine, revision: str) -> None:
    await revise(newer, revision)
    assert (await alembic("-x", "newer=accept")).returncode != 0


async def test_what_is_missing_is_migrated_where_a_newer_database_would_be_accepted(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    done = await alembic("-x", "newer=accept")
    assert done.returncode == 0, done.stderr
    engine = create_async_engine(empty_database_url)
    assert await read(engine, differences) == []
    await engine.dispose()
