"""`doctor`: everything an operator would look at, each with what is wrong and how to mend it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import httpx
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from tradingflow.chain.client import ChainClient
from tradingflow.chain.factory import VaultFactoryContract
from tradingflow.core.clock import SystemClock
from tradingflow.core.config import (
    AccountManagerSettings,
    ChainSettings,
    MonitorSettings,
    PlatformSettings,
    WorkerSettings,
)
from tradingflow.core.errors import TradingFlowError
from tradingflow.db.engine import make_engine
from tradingflow.db.models import Signer
from tradingflow.messaging.queues import queue_depths, queue_names
from tradingflow.operation.data_services import DATA_SERVICES, addresses
from tradingflow.operation.finding import Finding, State, fail, judge, ok, warn
from tradingflow.operation.judgements import (
    IDLE_MONITOR_S,
    MOST_SKEW_S,
    disk_findings,
    queue_findings,
    settings_findings,
    vital_findings,
)
from tradingflow.operation.migrations import head_revision
from tradingflow.operation.restore import ASIDE, REPLACED, has_schema
from tradingflow.operation.vault_operators import read_registered, vault_findings
from tradingflow.operation.vitals import read_vitals

CHECK_TIMEOUT_S = 10.0
OLDEST_POSTGRES = 140_000
# About a hundred swaps at 20 gwei.
LEAST_OPERATOR_WEI = 5 * 10**17


async def examine(settings: PlatformSettings) -> list[Finding]:
    """Every finding, in the order an operator reads them. Never raises for what it finds."""
    parts: list[Awaitable[list[Finding]]] = [
        _guarded("PostgreSQL", lambda: _postgres(settings)),
        _guarded("Redis", lambda: _redis(settings)),
        _guarded("RabbitMQ", lambda: _rabbitmq(settings)),
        *(_guarded(f"chain {chain.chain_id}", partial(_chain, chain, settings)) for chain in settings.chains),
        *(_guarded(f"chain {chain.chain_id}: vaults", partial(_vaults, chain, settings)) for chain in settings.chains),
        _guarded("services", _services),
    ]
    found = await asyncio.gather(*parts)
    return [*settings_findings(settings), *disk_findings(settings), *(finding for part in found for finding in part)]


async def _guarded(check: str, run: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await run()
    except TimeoutError:
        return [fail(check, f"no answer within {CHECK_TIMEOUT_S:g} s", "see whether it runs and is not overloaded")]
    except TradingFlowError as error:
        return [fail(check, error.detail, f"see whether it runs, and the settings of {check} in .env")]
    except (OSError, SQLAlchemyError, RedisError) as error:
        return [fail(check, type(error).__name__, f"see whether it runs, and the settings of {check} in .env")]


async def _postgres(settings: PlatformSettings) -> list[Finding]:
    await DATA_SERVICES["PostgreSQL"](settings)
    where = addresses(settings)["PostgreSQL"]
    async with _connected(settings) as connection:
        number = int(await connection.scalar(text("SHOW server_version_num")) or 0)
        findings = [
            judge(
                "PostgreSQL",
                f"version {number // 10_000}.{number % 10_000} at {where}",
                well=number >= OLDEST_POSTGRES,
                fix="upgrade to 14 or newer",
            )
        ]
        findings += await _left_by_restore(connection)
        migrated = await _migrated(connection)
        findings.append(migrated)
        if migrated.state is State.OK:
            findings += vital_findings(await read_vitals(connection))
    return findings


@asynccontextmanager
async def _connected(settings: PlatformSettings) -> AsyncIterator[AsyncConnection]:
    engine = make_engine(settings, application="tradingflow-doctor", pool_size=1)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


async def _left_by_restore(connection: AsyncConnection) -> list[Finding]:
    findings = []
    if await has_schema(connection, ASIDE):
        cut_off = f"a restore was cut off: what was there before it is in the schema {ASIDE}"
        fix = (
            f"restore again; but if the platform has run since, drop the schema {ASIDE} first: the next restore takes"
            " what is in public for half a back-up"
        )
        findings.append(warn("restore: cut off", cut_off, fix))
    if await has_schema(connection, REPLACED):
        kept = f"what the last restore replaced is still in the schema {REPLACED}"
        findings.append(warn("restore: leftover", kept, "drop it for its space, or leave it to the next restore"))
    return findings


async def _migrated(connection: AsyncConnection) -> Finding:
    fix = "run `alembic upgrade head`, with compose the service `migrate`"
    if not await connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL")):
        return fail("migrations", "none was ever run on this database", fix)
    current = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    head = head_revision()
    if head is None:
        return ok("migrations", f"at {current}; the files to compare with are not in this image")
    return judge("migrations", f"at {current}, newest {head}", well=current == head, fix=fix)


async def _redis(settings: PlatformSettings) -> list[Finding]:
    await DATA_SERVICES["Redis"](settings)
    client = Redis.from_url(settings.redis_dsn, decode_responses=True)
    try:
        facts = await client.info()
    finally:
        await client.aclose()
    return [
        ok("Redis", f"version {facts['redis_version']} at {addresses(settings)['Redis']}"),
        judge(
            "Redis: persistence",
            "append-only file" if facts["aof_enabled"] else "none",
            well=bool(facts["aof_enabled"]),
            fix="start it with --appendonly yes: sign-in nonces and job results are lost with a restart",
            otherwise=State.WARN,
        ),
        judge(
            "Redis: eviction",
            facts["maxmemory_policy"],
            well=facts["maxmemory_policy"] == "noeviction",
            fix="set maxmemory-policy noeviction: an evicted nonce or rate limit is a hole",
            otherwise=State.WARN,
        ),
    ]


async def _rabbitmq(settings: PlatformSettings) -> list[Finding]:
    depths = await queue_depths(settings.rabbitmq_dsn, queue_names(settings.cycle_partitions))
    return [ok("RabbitMQ", f"answers at {addresses(settings)['RabbitMQ']}"), *queue_findings(depths)]


async def _chain(chain: ChainSettings, settings: PlatformSettings) -> list[Finding]:
    check = f"chain {chain.chain_id}"
    client = ChainClient(chain)
    try:
        await client.verify_chain_id()
        block = await client.guard(client.web3.eth.get_block("latest"))
        age_s = SystemClock().now().timestamp() - block["timestamp"]
        findings = [
            judge(
                check,
                f"{chain.name} at block {block['number']}, {age_s:.0f} s old",
                well=-MOST_SKEW_S <= age_s < IDLE_MONITOR_S,
                fix="the node is behind, the chain has stopped, or this machine's clock is wrong",
                otherwise=State.WARN,
            )
        ]
        if chain.vault_factory:
            findings.append(await _factory(check, client))
        return findings + [await _operator(check, client, address) for address in await _operators(chain, settings)]
    finally:
        await client.close()


async def _factory(check: str, client: ChainClient) -> Finding:
    factory = VaultFactoryContract(client)
    fix = "correct vault_factory in CHAINS, or deploy it"
    if not await client.code_at(factory.address):
        return fail(f"{check}: factory", f"nothing is deployed at {factory.address}", fix)
    if not await factory.is_factory():
        return fail(f"{check}: factory", f"{factory.address} does not answer as a VaultFactory", fix)
    return ok(f"{check}: factory", f"{factory.address} made {await factory.vault_count()} vaults")


async def _vaults(chain: ChainSettings, settings: PlatformSettings) -> list[Finding]:
    """Nothing while the tables cannot be read: PostgreSQL and migrations have findings of their own."""
    try:
        async with _connected(settings) as connection:
            registered = await read_registered(connection, chain.chain_id)
    except (OSError, SQLAlchemyError):
        return []
    return await vault_findings(chain, registered)


async def _operators(chain: ChainSettings, settings: PlatformSettings) -> list[str]:
    """The public addresses of the keys it holds, which the Celery worker wrote down when it started."""
    try:
        async with _connected(settings) as connection:
            held = (Signer.chain_id == chain.chain_id, Signer.retired_at.is_(None))
            return list(await connection.scalars(select(Signer.address).where(*held)))
    except (OSError, SQLAlchemyError):
        return []


async def _operator(check: str, client: ChainClient, address: str) -> Finding:
    held = await client.guard(client.web3.eth.get_balance(client.web3.to_checksum_address(address)))
    units, rest = divmod(held, 10**18)
    return judge(
        f"{check}: operator",
        f"{address} holds {units}.{rest // 10**14:04} of the native coin",
        well=held >= LEAST_OPERATOR_WEI,
        fix="send it coins for gas; trades wait until it can pay",
        otherwise=State.WARN if held else State.FAIL,
    )


async def _services() -> list[Finding]:
    async with httpx.AsyncClient(timeout=CHECK_TIMEOUT_S / 2, trust_env=False) as client:
        return list(await asyncio.gather(*(_service(client, *service) for service in _service_urls().items())))


def _service_urls() -> dict[str, str]:
    """Where the services would be if they ran beside this command; those whose settings are wrong are left out."""
    urls = {}
    for name, settings, prefix in (
        ("Account Manager", AccountManagerSettings, "account_manager"),
        ("Python Worker", WorkerSettings, "py_worker"),
        ("Monitor", MonitorSettings, "monitor"),
    ):
        try:
            loaded = settings()
        except ValidationError:
            continue
        host = str(getattr(loaded, f"{prefix}_host")).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        urls[name] = f"http://{host}:{getattr(loaded, f'{prefix}_port')}/health/ready"
    return urls


async def _service(client: httpx.AsyncClient, name: str, url: str) -> Finding:
    try:
        answer = await client.get(url)
    except httpx.HTTPError as error:
        fix = "start it, or read its log; from inside a container only that container's own service is seen"
        return warn(name, f"{type(error).__name__} at {url}", fix)
    checks = answer.json().get("checks", {}) if answer.headers.get("content-type") == "application/json" else {}
    wrong = ", ".join(f"{what}: {said}" for what, said in checks.items() if said != "ok")
    return judge(
        name, wrong or f"ready at {url}", well=answer.status_code == 200, fix="see what it names, then its log"
    )
