"""Alembic's entry: one metadata, the database of the settings, one migration run at a time.

With `-x newer=accept` a database that a later release has migrated is left as it is: its migrations let the release
before run on. Without it Alembic fails there, as it does on any revision that it has no file of.
"""

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
        if context.get_x_argument(as_dictionary=True).get("newer") == "accept" and (newer := _newer_revision()):
            context.config.print_stdout("a later release has migrated this database to %s; left as it is", newer)
        else:
            context.run_migrations()


def _newer_revision() -> str | None:
    """The database's revision, if its number is above all that this release has files of."""
    current, head = context.get_context().get_current_revision(), context.script.get_current_head()
    return current if current and head and current.isdigit() and int(current) > int(head) else None


async def _migrate() -> None:
    engine = make_engine(PlatformSettings(), application="migrate", pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run)
            await connection.commit()
    finally:
        await engine.dispose()


asyncio.run(_migrate())
