"""Putting a back-up back, into an empty database or in place of what is there.

What is there is set aside, in a schema of another name, until every row of the back-up is in its place. Then the schema
is renamed, which is the instant of success, and dropped.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tradingflow.core.config import PlatformSettings
from tradingflow.core.errors import Conflict, InvalidInput, InvariantBroken
from tradingflow.db.engine import make_engine
from tradingflow.operation.archive import RABBITMQ, Manifest, TableFile, table_file
from tradingflow.operation.broker_definitions import ManagementApi
from tradingflow.operation.held_back import HeldBack, hold_back
from tradingflow.operation.migrations import ALEMBIC_INI, knows

ASIDE = "before_restore"
"""What was there, until the restore has succeeded; one that finds it takes the last for cut off."""
REPLACED = "replaced_by_restore"
"""What was there, once the restore has succeeded and it is only to be dropped."""

_DROP_REPLACED = text(f"DROP SCHEMA IF EXISTS {REPLACED} CASCADE")


def refuse_unknown(manifest: Manifest) -> None:
    """Raises InvalidInput for a back-up of a release that this code cannot read."""
    if not knows(manifest.revision):
        known = f"this code does not know its migration {manifest.revision}; restore it with the release that made it"
        raise InvalidInput("unknown_revision", known)


async def clear_the_way(settings: PlatformSettings, *, replace: bool) -> None:
    """Leave an empty schema, and what was there aside.

    Raises Conflict while others are connected, or at tables that may not be replaced.
    """
    async with _only_session(settings) as connection:
        await _refuse_company(connection)
        is_interrupted = await has_schema(connection, ASIDE)
        if not (is_interrupted or await _tables(connection)):
            return
        if not replace:
            raise Conflict("database_not_empty", "the database holds tables; with --replace they are dropped")
        await connection.execute(_DROP_REPLACED)
        # After a restore that was cut off, what was there first is aside already, and public holds half a back-up.
        await connection.execute(
            text("DROP SCHEMA public CASCADE" if is_interrupted else f"ALTER SCHEMA public RENAME TO {ASIDE}")
        )
        await connection.execute(text("CREATE SCHEMA public"))


@contextmanager
def or_as_it_was(settings: PlatformSettings) -> Iterator[None]:
    """After a failure the database is as `clear_the_way` found it; after a success what was there is gone."""
    try:
        yield
    except BaseException:
        asyncio.run(_undo(settings))
        raise
    asyncio.run(_succeed(settings))
    asyncio.run(_forget(settings))


async def _undo(settings: PlatformSettings) -> None:
    async with _only_session(settings) as connection:
        await connection.execute(text("DROP SCHEMA public CASCADE"))
        is_aside = await has_schema(connection, ASIDE)
        await connection.execute(text(f"ALTER SCHEMA {ASIDE} RENAME TO public" if is_aside else "CREATE SCHEMA public"))


async def _succeed(settings: PlatformSettings) -> None:
    """From here on public is what counts: dropping may take long, wait for a lock in vain, or be cut off."""
    async with _only_session(settings) as connection:
        if await has_schema(connection, ASIDE):
            await connection.execute(text(f"ALTER SCHEMA {ASIDE} RENAME TO {REPLACED}"))


async def _forget(settings: PlatformSettings) -> None:
    async with _only_session(settings) as connection:
        await connection.execute(_DROP_REPLACED)


@asynccontextmanager
async def _only_session(settings: PlatformSettings) -> AsyncIterator[AsyncConnection]:
    """A transaction on a connection of its own; afterwards nothing stays connected."""
    engine = make_engine(settings, application="tradingflow-restore", pool_size=1)
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


def migrate(revision: str) -> None:
    """Make the tables of `revision`, or bring them there."""
    command.upgrade(Config(str(ALEMBIC_INI)), revision)


async def load(
    settings: PlatformSettings, folder: Path, manifest: Manifest, *, as_it_was: bool = False
) -> HeldBack | None:
    """Copy every row in, all or nothing; what is held back of it, unless it is to go on as it was.

    The tables are those of the manifest's revision.
    """
    async with _only_session(settings) as connection:
        await _empty(connection)
        for file in manifest.tables:
            await _load_table(connection, folder, file)
        await _advance_sequences(connection)
        return None if as_it_was else await hold_back(connection, manifest.created_at)


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


async def has_schema(connection: AsyncConnection, name: str) -> bool:
    found = text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :name)")
    return bool(await connection.scalar(found, {"name": name}))


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


async def _advance_sequences(connection: AsyncConnection) -> None:
    """The next generated key comes after every restored one. Which there are the tables say: they may be old ones."""
    generated = text(
        """SELECT pg_class.oid::regclass::text, quote_ident(attname), sequence
           FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
           CROSS JOIN pg_get_serial_sequence(pg_class.oid::regclass::text, attname) AS sequence
           WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND sequence IS NOT NULL"""
    )
    for table, column, sequence in (await connection.execute(generated)).all():
        highest = f"SELECT setval(:sequence, coalesce(max({column}), 0) + 1, false) FROM {table}"  # noqa: S608 (quoted by PostgreSQL)
        await connection.execute(text(highest), {"sequence": sequence})
