"""What an operator is told: which server is missing and where, and what is wrong with the platform."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import insert, literal, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from devstack.anvil import CHAIN_ID, Anvil
from devstack.ports import free_port
from tradingflow.core.config import ChainSettings, PlatformSettings
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.db.engine import make_engine
from tradingflow.db.models import (
    Base,
    ChainCursor,
    Cycle,
    DeadLetter,
    Flow,
    FlowVersion,
    OutboxMessage,
    Schedule,
    Signer,
    User,
)
from tradingflow.messaging.broker import Broker
from tradingflow.operation.data_services import wait_for_data_services
from tradingflow.operation.doctor import examine
from tradingflow.operation.exporter import render
from tradingflow.operation.finding import Finding, State
from tradingflow.operation.restore import ASIDE, REPLACED

OPERATOR = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


async def findings(settings: PlatformSettings) -> dict[str, Finding]:
    return {finding.check: finding for finding in await examine(settings)}


async def test_waiting_ends_when_the_three_answer(settings: PlatformSettings) -> None:
    said: list[str] = []
    await wait_for_data_services(settings, timeout_s=60, say=said.append)
    assert sorted(line.split()[0] for line in said) == ["PostgreSQL", "RabbitMQ", "Redis"]
    assert all("127.0.0.1:" in line for line in said)


async def test_waiting_names_the_server_that_is_missing_and_where_it_was_sought(
    settings: PlatformSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("REDIS_URL", f"redis://:canary-secret@127.0.0.1:{port}/0")
    with pytest.raises(DependencyUnavailable) as missing:
        await wait_for_data_services(PlatformSettings(), timeout_s=0, say=lambda _: None)
    assert f"Redis at 127.0.0.1:{port}" in missing.value.detail
    assert "RabbitMQ" not in missing.value.detail
    assert "canary-secret" not in str(missing.value)


async def test_waiting_goes_on_until_a_late_server_answers(settings: PlatformSettings) -> None:
    tries = 0

    async def late(_: PlatformSettings) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise DependencyUnavailable("postgres_unavailable", "not yet")

    await wait_for_data_services(settings, timeout_s=30, say=lambda _: None, checks={"PostgreSQL": late})
    assert tries == 3


async def test_a_platform_in_order_has_no_failure(settings: PlatformSettings, anvil: Anvil) -> None:
    chain = ChainSettings(chain_id=CHAIN_ID, name="local", rpc_urls=(anvil.url,))
    settings = settings.model_copy(update={"chains": (chain,)})
    async with Broker(settings.rabbitmq_dsn, name="test", partitions=settings.cycle_partitions):
        pass
    await write(settings, insert(Signer).values(chain_id=CHAIN_ID, address=OPERATOR, next_nonce=None))
    found = await findings(settings)
    failed = {check for check, finding in found.items() if finding.state is State.FAIL}
    assert failed == set()
    assert found["migrations"].state is State.OK
    assert "holds 10000." in found[f"chain {CHAIN_ID}: operator"].found


async def write(settings: PlatformSettings, *statements: object) -> None:
    engine = make_engine(settings, application="test", pool_size=1)
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(statement)  # type: ignore[call-overload]
    await engine.dispose()


def long_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


def late_schedule(status: str = "running", **schedule: str) -> list[object]:
    user, flow = uuid4(), uuid4()
    values = {"id": flow, "user_id": user, "flow_id": "f", "status": status, "current_version": 1}
    due = {"flow_pk": flow, "cycle_interval": "10s", "next_fire_at": long_ago()} | schedule
    return [insert(User).values(id=user), insert(Flow).values(values), insert(Schedule).values(due)]


def schedule_that_waits(**schedule: str) -> list[object]:
    """For the cycle before."""
    version = {"version": 1, "graph": {}}
    cycle = {"cycle": 0, "version": 1, "fire_time": long_ago(), "trigger": "interval", "status": "running"}
    return [*late_schedule(**schedule), of_the_flow(FlowVersion, version), of_the_flow(Cycle, cycle)]


def of_the_flow(table: type[Base], values: Mapping[str, object]) -> object:
    columns = [literal(value, table.__table__.c[name].type) for name, value in values.items()]
    return insert(table).from_select(["flow_pk", *values], select(Flow.id, *columns))


def stuck_outbox() -> list[object]:
    row = {
        "lane": "monitor",
        "exchange": "e",
        "routing_key": "k",
        "message_id": "1",
        "body": b"",
        "created_at": long_ago(),
    }
    return [insert(OutboxMessage).values(row)]


def dead_letter() -> list[object]:
    return [insert(DeadLetter).values(message_id="1", routing_key="k", body=b"", reason="poison", status="dead")]


def halted_chain() -> list[object]:
    cursor = {"chain_id": 1, "next_block": 7, "next_final_block": 7, "halted_reason": "deep", "updated_at": long_ago()}
    return [insert(ChainCursor).values(cursor)]


def old_schema() -> list[object]:
    return [text("UPDATE alembic_version SET version_num = '0000'")]


@pytest.mark.parametrize(
    ("trouble", "check", "state", "gauge"),
    [
        (late_schedule, "schedules", State.FAIL, "tradingflow_schedules_late 1.0"),
        (stuck_outbox, "outbox: monitor", State.FAIL, 'tradingflow_outbox{lane="monitor"} 1.0'),
        (dead_letter, "dead letters", State.WARN, "tradingflow_dead_letters 1.0"),
        (halted_chain, "Monitor: chain 1", State.FAIL, 'tradingflow_chain_halted{chain_id="1"} 1.0'),
        (old_schema, "migrations", State.FAIL, "tradingflow_postgres_read_only 0.0"),
    ],
)
async def test_trouble_is_named_with_its_cure_and_measured(
    settings: PlatformSettings,
    tmp_path: Path,
    trouble: Callable[[], list[object]],
    check: str,
    state: State,
    gauge: str,
) -> None:
    await write(settings, *trouble())
    finding = (await findings(settings))[check]
    assert finding.state is state
    assert finding.fix
    engine = create_async_engine(settings.database_dsn)
    assert gauge in (await render(settings, engine, tmp_path)).decode()
    await engine.dispose()


@pytest.mark.parametrize(
    ("schema", "check"), [(ASIDE, "restore: cut off"), (REPLACED, "restore: leftover")], ids=["cut off", "leftover"]
)
async def test_what_a_restore_left_behind_is_named(settings: PlatformSettings, schema: str, check: str) -> None:
    assert check not in await findings(settings)
    await write(settings, text(f"CREATE SCHEMA {schema}"))
    finding = (await findings(settings))[check]
    assert finding.state is State.WARN
    assert schema in finding.found


@pytest.mark.parametrize(
    "waiting",
    [
        late_schedule("paused"),
        schedule_that_waits(overlap="queue"),
        schedule_that_waits(misfire="all"),
        schedule_that_waits(cycle_interval="0"),
    ],
    ids=["a paused flow", "behind its open cycle", "that makes up for all", "that runs once"],
)
async def test_a_schedule_that_shall_wait_is_not_late(settings: PlatformSettings, waiting: list[object]) -> None:
    await write(settings, *waiting)
    assert (await findings(settings))["schedules"].state is State.OK


async def test_servers_that_are_away_are_failures_and_not_tracebacks(
    settings: PlatformSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("DATABASE_URL", f"postgresql+asyncpg://me:canary-secret@127.0.0.1:{port}/db")
    monkeypatch.setenv("REDIS_URL", f"redis://:canary-secret@127.0.0.1:{port}/0")
    monkeypatch.setenv("RABBITMQ_URL", f"amqp://me:canary-secret@127.0.0.1:{port}/v")
    chain = ChainSettings(chain_id=1, name="gone", rpc_urls=(f"http://127.0.0.1:{port}/canary-secret",))
    found = await findings(PlatformSettings(chains=(chain,)))
    for check in ("PostgreSQL", "Redis", "RabbitMQ", "chain 1"):
        assert found[check].state is State.FAIL
        assert found[check].fix
    assert "canary-secret" not in str(found)


async def test_an_rpc_of_another_chain_is_a_failure(settings: PlatformSettings, anvil: Anvil) -> None:
    wrong = ChainSettings(chain_id=1, name="mainnet", rpc_urls=(anvil.url,))
    found = await findings(settings.model_copy(update={"chains": (wrong,)}))
    assert found["chain 1"].state is State.FAIL
    assert str(CHAIN_ID) in found["chain 1"].found
