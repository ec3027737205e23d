"""Taking a back-up: every table in one snapshot, while the services run."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from tradingflow import __version__
from tradingflow.core.config import PlatformSettings
from tradingflow.core.errors import Conflict, InvariantBroken
from tradingflow.db.engine import make_engine
from tradingflow.db.models import Base
from tradingflow.operation.archive import FORMAT, RABBITMQ, Manifest, TableFile, sha256_of, table_file
from tradingflow.operation.broker_definitions import ManagementApi
from tradingflow.operation.migrations import knows

# The rows are mostly hashes and JSON: level 1 takes half the space of none in a fifth of the time of the default.
COMPRESSION = 1


async def take_backup(settings: PlatformSettings, parent: Path, management: ManagementApi | None) -> Path:
    """Write a back-up into a new folder below `parent` and return it; a broken-off one never has its final name.

    `management` None leaves RabbitMQ's definitions out: every service declares what it needs when it starts.
    """
    engine = make_engine(settings, application="tradingflow-backup", pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            moment = await connection.scalar(
                text("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD\"T\"HH24MISS\"Z\"')")
            )
            folder = _new_folder(parent, f"tradingflow-{moment}")
            (await _dump(connection, folder, str(moment))).write(folder)
    finally:
        await engine.dispose()
    if management is not None:
        (folder / RABBITMQ).write_bytes(orjson.dumps(await management.export(settings.rabbitmq_vhost)))
    final = folder.with_suffix("")
    folder.rename(final)
    return final


def _new_folder(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{name}.partial"
    if folder.exists() or (parent / name).exists():
        raise Conflict("backup_exists", f"{parent / name} exists already; one back-up a second")
    folder.mkdir(mode=0o700)
    return folder


async def _dump(connection: AsyncConnection, folder: Path, moment: str) -> Manifest:
    revision = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    if not knows(str(revision)):
        newer = f"the tables are of migration {revision}, unknown to this version; back up with the newer one"
        raise InvariantBroken("unknown_revision", newer)
    await _refuse_unknown_tables(connection)
    files = [await _dump_table(connection, folder, table) for table in Base.metadata.sorted_tables]
    return Manifest(FORMAT, __version__, str(revision), moment, tuple(files))


async def _refuse_unknown_tables(connection: AsyncConnection) -> None:
    """A table that the models do not name would be left out without a word."""
    found = await connection.scalars(
        text(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'alembic_version'"
        )
    )
    if unknown := sorted(set(found) - Base.metadata.tables.keys()):
        raise InvariantBroken("unknown_tables", f"not known to this version: {', '.join(unknown)}; upgrade first")


async def _dump_table(connection: AsyncConnection, folder: Path, table: Table) -> TableFile:
    columns = tuple(column.name for column in table.columns if column.computed is None)
    named = ", ".join(f'"{column}"' for column in columns)
    file = table_file(folder, table.name)
    driver: Any = (await connection.get_raw_connection()).driver_connection
    with gzip.open(file, "wb", compresslevel=COMPRESSION) as output:
        # Both names come from our own models.
        said = await driver.copy_from_query(f'SELECT {named} FROM "{table.name}"', output=output)  # noqa: S608
    return TableFile(table.name, columns, int(said.split()[1]), sha256_of(file))
