"""The drill: back up, destroy, restore, and find every row again. Nothing is overwritten by accident."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from itertools import compress
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner, Result

import tradingflow.operation.backup as module
from devstack.private_servers import PrivateServers
from tradingflow.cli import app
from tradingflow.core.config import PlatformSettings
from tradingflow.core.errors import Conflict, InvalidInput, InvariantBroken
from tradingflow.db.models import (
    ApiKey,
    AuthSession,
    Base,
    ContractEvent,
    Cycle,
    Flow,
    FlowLog,
    FlowVersion,
    OutboxMessage,
    User,
)
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.queues import queue_depths, queue_names
from tradingflow.operation import restore
from tradingflow.operation.archive import MANIFEST, sha256_of, table_file

USER_ID, FLOW_ID = uuid4(), uuid4()
# Before backtests, exchange candles and what came after.
OLDER = "0010"
# Before cycles had a mode.
ALL_LIVE = "0008"
COLUMNS = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
NAMED = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_)'"
Rows = dict[str, list[tuple[object, ...]]]


async def fill(url: str) -> None:
    """Rows whose types are hard to copy: JSON with quotes, bytes, arrays of bytes, NULLs, tabs and line ends."""
    graph = {"nodes": [{"id": "n", "config": {"text": 'a\ttab, a\nline, \\ and "quotes"', "none": None}}]}
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(insert(User), [{"id": USER_ID}])
        flow = {"id": FLOW_ID, "user_id": USER_ID, "flow_id": "my_flow", "status": "running", "current_version": 1}
        await connection.execute(insert(Flow), [flow])
        await connection.execute(insert(FlowVersion), [{"flow_pk": FLOW_ID, "version": 1, "graph": graph}])
        message = {"lane": "monitor", "exchange": "e", "routing_key": "k", "body": bytes(range(256))}
        await connection.execute(insert(OutboxMessage), [{**message, "message_id": str(n)} for n in range(3)])
        event = {
            "chain_id": 1,
            "block_number": 2**40,
            "block_hash": "0x" + "ab" * 32,
            "transaction_hash": "0x" + "cd" * 32,
            "address": "0x" + "11" * 20,
            "kind": "vault",
            "name": None,
            "args": None,
            "undecoded_reason": "no ABI",
            "topics": [b"\x00" * 32, b"\\t\n"],
            "data": b"",
            "block_time": text("now()"),
        }
        await connection.execute(insert(ContractEvent).values({**event, "log_index": 0}))
    await engine.dispose()


async def rows(url: str) -> Rows:
    """Every row of every table."""
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        found = {
            table.name: sorted((tuple(map(repr, row)) for row in await connection.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }
    await engine.dispose()
    return found  # type: ignore[return-value]


async def schemas(url: str) -> set[str]:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        named = await connection.scalars(text(NAMED))
    await engine.dispose()
    return set(named)


async def columns(url: str) -> dict[str, set[str]]:
    """By table."""
    found: dict[str, set[str]] = {}
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        for table, column in await connection.execute(text(COLUMNS)):
            found.setdefault(table, set()).add(column)
    await engine.dispose()
    return found


def made_by(folder: Path, revision: str, has: dict[str, set[str]] | None = None) -> None:
    """A back-up as another release takes it: of that revision, with no table and no column that it does not have."""
    manifest = json.loads((folder / MANIFEST).read_text()) | {"revision": revision}
    if has is not None:
        manifest["tables"] = [table for table in manifest["tables"] if table["table"] in has]
        for table in manifest["tables"]:
            kept = [column in has[table["table"]] for column in table["columns"]]
            table["columns"] = list(compress(table["columns"], kept))
            file = table_file(folder, table["table"])
            lines = gzip.decompress(file.read_bytes()).splitlines()
            cut = (b"\t".join(compress(line.split(b"\t"), kept)) + b"\n" for line in lines)
            file.write_bytes(gzip.compress(b"".join(cut)))
            table["sha256"] = sha256_of(file)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def run(*arguments: str) -> Result:
    """A command as typed; what it raises comes through."""
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def backed_up(backups: Path) -> Path:
    done = run("backup", str(backups))
    assert done.exit_code == 0, done.output
    return Path(done.output.strip())


@pytest.fixture
def another_database(servers: PrivateServers) -> Iterator[str]:
    with servers.fresh_database(migrated=False) as url:
        yield url


async def test_every_row_is_back_in_an_empty_database(
    settings: PlatformSettings, backups: Path, another_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(settings.database_dsn)
    before = await rows(settings.database_dsn)
    folder = await asyncio.to_thread(backed_up, backups)

    monkeypatch.setenv("DATABASE_URL", another_database)
    done = await asyncio.to_thread(run, "restore", str(folder), "--as-it-was")
    assert done.exit_code == 0, done.output
    assert await rows(another_database) == before
    assert sum(map(len, before.values())) >= 7


async def fill_what_goes_on(url: str) -> dict[str, UUID]:
    """Flows by name, one cycle that was opened live before its flow was changed to paper, two sessions and two keys."""
    named: dict[str, dict[str, Any]] = {
        name: {"id": uuid4(), "user_id": USER_ID, "flow_id": name, "status": status, "mode": mode, "current_version": 1}
        for name, status, mode in (
            ("live", "running", "live"),
            ("live once", "running", "paper"),
            ("paper", "running", "paper"),
            ("stopped", "stopped", "live"),
        )
    }
    was_live = named["live once"]["id"]
    common = {"user_id": USER_ID, "wallet_address": "0x" + "11" * 20, "expires_at": text("now() + interval '1 day'")}
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(insert(Flow), list(named.values()))
        await connection.execute(insert(FlowVersion), [{"flow_pk": was_live, "version": 1, "graph": {}}])
        cycle = {"flow_pk": was_live, "cycle": 7, "version": 1, "mode": "live", "status": "running"}
        await connection.execute(insert(Cycle).values({**cycle, "fire_time": text("now()")}))
        for number, revoked_at in enumerate((None, text("now() - interval '1 hour'"))):
            ends = {**common, "revoked_at": revoked_at}
            await connection.execute(insert(AuthSession).values({**ends, "id": uuid4(), "last_used_at": text("now()")}))
            key = {**ends, "id": uuid4(), "name": "bot", "hash": bytes([number]), "scopes": ["flows:read"]}
            await connection.execute(insert(ApiKey).values(key))
    await engine.dispose()
    return {name: flow["id"] for name, flow in named.items()}


@pytest.mark.parametrize("revision", [None, ALL_LIVE])
async def test_what_an_owner_may_have_ended_since_does_not_go_on_by_itself(
    settings: PlatformSettings,
    backups: Path,
    another_database: str,
    empty_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    revision: str | None,
) -> None:
    """Out of a back-up of this release, and of one whose tables say less."""
    await fill(settings.database_dsn)
    flows = await fill_what_goes_on(settings.database_dsn)
    folder = await asyncio.to_thread(backed_up, backups)
    if revision is not None:
        monkeypatch.setenv("DATABASE_URL", empty_database_url)
        await asyncio.to_thread(restore.migrate, revision)
        made_by(folder, revision, await columns(empty_database_url))

    monkeypatch.setenv("DATABASE_URL", another_database)
    done = await asyncio.to_thread(run, "restore", str(folder))
    assert "3 live flows paused, 1 sessions ended, 1 API keys revoked" in done.output
    engine = create_async_engine(another_database)
    async with engine.connect() as connection:
        found = await connection.execute(select(Flow.id, Flow.status))
        statuses = {row.id: row.status for row in found}
        lines = (await connection.execute(select(FlowLog.flow_pk, FlowLog.cycle, FlowLog.message))).all()
        living = [
            await connection.scalar(select(table.id).where(table.revoked_at.is_(None)))
            for table in (AuthSession, ApiKey)
        ]
        ended_earlier = select(AuthSession.id).where(AuthSession.revoked_at < text("now() - interval '30 minutes'"))
        assert len((await connection.scalars(ended_earlier)).all()) == 1
    await engine.dispose()
    paused = {FLOW_ID, flows["live"], flows["live once"]}
    assert statuses == dict.fromkeys(paused, "paused") | {flows["paper"]: "running", flows["stopped"]: "stopped"}
    assert {line.flow_pk: line.cycle for line in lines} == dict.fromkeys(paused, 0) | {flows["live once"]: 7}
    assert all("back-up" in line.message for line in lines)
    assert living == [None, None]


async def test_the_next_generated_key_comes_after_the_restored_ones(
    settings: PlatformSettings, backups: Path, another_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(settings.database_dsn)
    folder = await asyncio.to_thread(backed_up, backups)
    monkeypatch.setenv("DATABASE_URL", another_database)
    await asyncio.to_thread(run, "restore", str(folder))
    engine = create_async_engine(another_database)
    async with engine.begin() as connection:
        row = {"lane": "monitor", "exchange": "e", "routing_key": "k", "body": b"", "message_id": "next"}
        new = await connection.scalar(insert(OutboxMessage).values(row).returning(OutboxMessage.id))
        others = await connection.scalars(select(OutboxMessage.id).where(OutboxMessage.message_id != "next"))
        assert new is not None
        assert new > max(others)
    await engine.dispose()


async def test_a_back_up_is_one_moment_although_writing_goes_on(
    settings: PlatformSettings, backups: Path, another_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users are copied first; a user and its flow written after that must both be missing, never the user alone."""
    await fill(settings.database_dsn)
    before = await rows(settings.database_dsn)
    dump, late = module._dump_table, uuid4()

    async def dump_while_somebody_writes(*arguments: object) -> object:
        file = await dump(*arguments)  # type: ignore[arg-type]
        if file.table == "users":
            engine = create_async_engine(settings.database_dsn)
            async with engine.begin() as other:
                await other.execute(insert(User), [{"id": late}])
                flow = {"id": late, "user_id": late, "flow_id": "late", "status": "running", "current_version": 1}
                await other.execute(insert(Flow), [flow])
            await engine.dispose()
        return file

    monkeypatch.setattr(module, "_dump_table", dump_while_somebody_writes)
    folder = await asyncio.to_thread(backed_up, backups)
    monkeypatch.setenv("DATABASE_URL", another_database)
    await asyncio.to_thread(run, "restore", str(folder), "--as-it-was")
    assert await rows(another_database) == before


async def test_tables_in_place_are_kept_unless_told_otherwise(settings: PlatformSettings, backups: Path) -> None:
    await fill(settings.database_dsn)
    before = await rows(settings.database_dsn)
    folder = await asyncio.to_thread(backed_up, backups)
    with pytest.raises(Conflict, match="--replace"):
        await asyncio.to_thread(run, "restore", str(folder))
    assert await rows(settings.database_dsn) == before
    done = await asyncio.to_thread(run, "restore", str(folder), "--replace", "--as-it-was")
    assert done.exit_code == 0, done.output
    assert await rows(settings.database_dsn) == before


async def test_nothing_is_restored_under_a_running_service(settings: PlatformSettings, backups: Path) -> None:
    folder = await asyncio.to_thread(backed_up, backups)
    engine = create_async_engine(
        settings.database_dsn, connect_args={"server_settings": {"application_name": "monitor"}}
    )
    async with engine.connect():
        with pytest.raises(Conflict, match="monitor; stop the services first"):
            await asyncio.to_thread(run, "restore", str(folder), "--replace")
    await engine.dispose()


async def test_a_changed_back_up_is_refused_before_anything_is_dropped(
    settings: PlatformSettings, backups: Path
) -> None:
    await fill(settings.database_dsn)
    before = await rows(settings.database_dsn)
    folder = await asyncio.to_thread(backed_up, backups)
    table_file(folder, "users").write_bytes(gzip.compress(b""))
    with pytest.raises(InvalidInput, match=r"users\.copy\.gz"):
        await asyncio.to_thread(run, "restore", str(folder), "--replace")
    assert await rows(settings.database_dsn) == before


async def test_a_table_that_this_version_does_not_know_is_not_left_out_in_silence(
    settings: PlatformSettings, backups: Path
) -> None:
    engine = create_async_engine(settings.database_dsn)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE of_tomorrow (id int)"))
    await engine.dispose()
    with pytest.raises(InvariantBroken, match="of_tomorrow"):
        await asyncio.to_thread(run, "backup", str(backups))
    assert not await asyncio.to_thread(lambda: list(backups.glob(f"*/{MANIFEST}")))


async def test_a_back_up_of_an_older_release_is_restored_and_brought_up_to_date(
    settings: PlatformSettings,
    backups: Path,
    another_database: str,
    empty_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of one that lacks tables with generated keys, and columns of tables that have no row here."""
    await fill(settings.database_dsn)
    folder = await asyncio.to_thread(backed_up, backups)
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    await asyncio.to_thread(restore.migrate, OLDER)
    made_by(folder, OLDER, await columns(empty_database_url))

    monkeypatch.setenv("DATABASE_URL", another_database)
    done = await asyncio.to_thread(run, "restore", str(folder), "--as-it-was")
    assert done.exit_code == 0, done.output
    assert await rows(another_database) == await rows(settings.database_dsn)


@pytest.mark.parametrize("step", ["load", "migrate"])
async def test_a_restore_that_fails_leaves_what_was_there(
    settings: PlatformSettings, backups: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await fill(settings.database_dsn)
    before = await rows(settings.database_dsn)
    folder = await asyncio.to_thread(backed_up, backups)
    broken = InvariantBroken("broken", "the disk is full")
    monkeypatch.setattr(restore, step, Mock(side_effect=broken))
    with pytest.raises(InvariantBroken, match="the disk is full"):
        await asyncio.to_thread(run, "restore", str(folder), "--replace")
    assert await rows(settings.database_dsn) == before
    assert await schemas(settings.database_dsn) == {"public"}


async def test_what_was_there_outlives_a_restore_that_was_cut_off(
    settings: PlatformSettings, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(settings.database_dsn)
    before = await rows(settings.database_dsn)
    folder = await asyncio.to_thread(backed_up, backups)
    await restore.clear_the_way(settings, replace=True)
    with pytest.raises(Conflict, match="--replace"):
        await asyncio.to_thread(run, "restore", str(folder))

    monkeypatch.setattr(restore, "load", Mock(side_effect=InvariantBroken("broken", "the disk is full")))
    with pytest.raises(InvariantBroken):
        await asyncio.to_thread(run, "restore", str(folder), "--replace")
    assert await rows(settings.database_dsn) == before


async def test_a_restore_that_was_cut_off_after_its_success_costs_nothing_written_since(
    settings: PlatformSettings, backups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it replaced could not be dropped; the next one fails, and must not take that for what was there."""
    await fill(settings.database_dsn)
    folder = await asyncio.to_thread(backed_up, backups)
    with monkeypatch.context() as cut_off:
        cut_off.setattr(restore, "_forget", Mock(side_effect=InvariantBroken("cut_off", "the process is gone")))
        with pytest.raises(InvariantBroken, match="the process is gone"):
            await asyncio.to_thread(run, "restore", str(folder), "--replace")
    engine = create_async_engine(settings.database_dsn)
    async with engine.begin() as connection:
        await connection.execute(insert(User), [{"id": uuid4()}])
    await engine.dispose()
    before = await rows(settings.database_dsn)

    with monkeypatch.context() as broken:
        broken.setattr(restore, "load", Mock(side_effect=InvariantBroken("broken", "the disk is full")))
        with pytest.raises(InvariantBroken, match="the disk is full"):
            await asyncio.to_thread(run, "restore", str(folder), "--replace")
    assert await rows(settings.database_dsn) == before
    assert await schemas(settings.database_dsn) == {"public"}


async def test_a_back_up_of_a_later_release_is_refused_before_anything_is_touched(
    settings: PlatformSettings, backups: Path
) -> None:
    await fill(settings.database_dsn)
    before = await rows(settings.database_dsn)
    folder = await asyncio.to_thread(backed_up, backups)
    made_by(folder, "9999")
    with pytest.raises(InvalidInput, match="9999"):
        await asyncio.to_thread(run, "restore", str(folder), "--replace")
    assert await rows(settings.database_dsn) == before


async def test_tables_of_a_later_release_are_not_backed_up_in_part(settings: PlatformSettings, backups: Path) -> None:
    engine = create_async_engine(settings.database_dsn)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(InvariantBroken, match="9999"):
        await asyncio.to_thread(run, "backup", str(backups))


async def test_brokers_definitions_come_back_too(
    settings: PlatformSettings,
    backups: Path,
    management_url: str,
    servers: PrivateServers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partitions = settings.cycle_partitions
    async with Broker(settings.rabbitmq_dsn, name="test", partitions=partitions):
        pass
    done = await asyncio.to_thread(run, "backup", str(backups), "--rabbitmq-management", management_url)
    with servers.fresh_virtual_host() as url:
        monkeypatch.setenv("RABBITMQ_VHOST", url.rpartition("/")[2])
        options = ("--replace", "--rabbitmq-management", management_url)
        await asyncio.to_thread(run, "restore", done.output.strip(), *options)
        assert None not in (await queue_depths(url, queue_names(partitions))).values()
