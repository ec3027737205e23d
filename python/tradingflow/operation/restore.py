"""Putting a back-up back, into an empty database or in place of what is there."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tradingflow.core.config import PlatformSettings
from tradingflow.core.errors import Conflict, InvariantBroken
from tradingflow.db.engine import make_engine
from tradingflow.db.models import Base
from tradingflow.operation.archive import RABBITMQ, Manifest, TableFile, table_file
from tradingflow.operation.broker_definitions import ManagementApi
from tradingflow.operation.migrations import ALEMBIC_INI


async def clear_the_way(settings: PlatformSettings, *, replace: bool) -> None:
    """Leave an empty schema. Raises Conflict while others are connected, or at tables that may not be replaced."""
    engine = make_engine(settings, application="tradingflow-restore", pool_size=1)
    try:
        async with engine.begin() as connection:
            await _refuse_company(connection)
            if await _tables(connection):
                if not replace:
                    raise Conflict("database_not_empty", "the database holds tables; with --replace they are dropped")
                await connection.execute(text("DROP SCHEMA public CASCADE"))
                await connection.execute(text("CREATE SCHEMA public"))
    finally:
        await engine.dispose()


def migrate(revision: str) -> None:
    """Make the tables of `revision`, or bring them there."""
    command.upgrade(Config(str(ALEMBIC_INI)), revision)


async def load(settings: PlatformSettings, folder: Path, manifest: Manifest) -> int:
    """Copy every row in, all or nothing; how many there were. The tables are those of the manifest's revision."""
    engine = make_engine(settings, application="tradingflow-restore", pool_size=1)
    try:
        async with engine.begin() as connection:
            await _empty(connection)
            for file in manifest.tables:
                await _load_table(connection, folder, file)
            for table in Base.metadata.sorted_tables:
                await _advance_sequences(connection, table)
    finally:
        await engine.dispose()
    return sum(file.rows for file in manifest.tables)


async def load_definitions(folder: Path, vhost: str, management: ManagementApi, say: Callable[[str], None]) -> None:
    """RabbitMQ's definitions, if the back-up holds them."""
    file = folder / RABBITMQ
    if file.exists():
        await management.load(vhost, file.read_bytes())
        say("RabbitMQ's definitions are back")


async def _refuse_company(connection: AsyncConnection) -> None:
    """Another session could write between our emptying and our filling."""
    others = await connection.scalars(
        text(
            "SELECT DISTINCT coalesce(nullif(application_name, ''), usename) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    )
    if names := sorted(others):
        raise Conflict("database_in_use", f"still connected: {', '.join(names)}; stop the services first")


async def _tables(connection: AsyncConnection) -> int:
    count = await connection.scalar(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"))
    return int(count or 0)


async def _empty(connection: AsyncConnection) -> None:
    """Migrations put rows into some tables (the plans); the back-up holds those rows as they were."""
    names = await connection.scalar(
        text(
            "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables"
            " WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        )
    )
    if names:
        await connection.execute(text(f"TRUNCATE {names}"))  # quoted by PostgreSQL


async def _load_table(connection: AsyncConnection, folder: Path, file: TableFile) -> None:
    driver: Any = (await connection.get_raw_connection()).driver_connection
    with gzip.open(table_file(folder, file.table), "rb") as source:
        said = await driver.copy_to_table(file.table, columns=file.columns, source=source)
    if int(said.split()[1]) != file.rows:
        raise InvariantBroken("rows_missing", f"{file.table}: {said} instead of {file.rows} rows")


async def _advance_sequences(connection: AsyncConnection, table: Table) -> None:
    """The next generated key comes after every restored one."""
    for column in table.primary_key.columns:
        sequence = await connection.scalar(
            text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
        )
        if sequence is not None:
            # Both names come from our own models.
            highest = f'SELECT setval(:sequence, coalesce(max("{column.name}"), 0) + 1, false) FROM "{table.name}"'  # noqa: S608
            await connection.execute(text(highest), {"sequence": sequence})
