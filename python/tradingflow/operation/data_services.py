"""PostgreSQL, Redis and RabbitMQ as an operator sees them: does each answer, with our credentials?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from tradingflow.core.config import PlatformSettings
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import redact_text
from tradingflow.db.engine import make_engine
from tradingflow.messaging.broker import Broker

RETRY_INTERVAL_S = 0.5
TRY_TIMEOUT_S = 5.0

Check = Callable[[PlatformSettings], Awaitable[None]]


async def check_postgres(settings: PlatformSettings) -> None:
    """Sign in and run a statement; raises DependencyUnavailable."""
    engine = make_engine(settings, application="tradingflow-cli", pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (OSError, SQLAlchemyError) as error:
        raise DependencyUnavailable("postgres_unavailable", _said(error)) from error
    finally:
        await engine.dispose()


async def check_redis(settings: PlatformSettings) -> None:
    """Sign in and ping; raises DependencyUnavailable."""
    client = Redis.from_url(settings.redis_dsn, socket_timeout=TRY_TIMEOUT_S)
    try:
        await client.ping()
    except (OSError, RedisError) as error:
        raise DependencyUnavailable("redis_unavailable", _said(error)) from error
    finally:
        await client.aclose()


async def check_rabbitmq(settings: PlatformSettings) -> None:
    """Sign in and declare every exchange and queue; raises DependencyUnavailable."""
    async with Broker(settings.rabbitmq_dsn, name="tradingflow-cli", partitions=settings.cycle_partitions):
        pass


DATA_SERVICES: Mapping[str, Check] = {
    "PostgreSQL": check_postgres,
    "Redis": check_redis,
    "RabbitMQ": check_rabbitmq,
}


def addresses(settings: PlatformSettings) -> dict[str, str]:
    """`host:port` of each data service, without credentials."""
    dsns = (settings.database_dsn, settings.redis_dsn, settings.rabbitmq_dsn)
    parts = (urlsplit(dsn) for dsn in dsns)
    return {name: f"{part.hostname}:{part.port}" for name, part in zip(DATA_SERVICES, parts, strict=True)}


async def wait_for_data_services(
    settings: PlatformSettings,
    *,
    timeout_s: float,
    say: Callable[[str], None],
    checks: Mapping[str, Check] | None = None,
) -> None:
    """Return once all three answer; `say` is told about each. Raises DependencyUnavailable naming those that do not."""
    where = addresses(settings)
    deadline = time.monotonic() + timeout_s

    async def wait_for(name: str, check: Check) -> str | None:
        while True:
            wrong = await _try(check, settings)
            if wrong is None:
                say(f"{name} answers at {where[name]}")
                return None
            if time.monotonic() > deadline:
                return f"{name} at {where[name]}: {wrong}"
            await asyncio.sleep(RETRY_INTERVAL_S)

    answers = await asyncio.gather(*(wait_for(*item) for item in (checks or DATA_SERVICES).items()))
    if missing := [answer for answer in answers if answer]:
        raise DependencyUnavailable("data_services_unavailable", "; ".join(missing))


async def _try(check: Check, settings: PlatformSettings) -> str | None:
    try:
        async with asyncio.timeout(TRY_TIMEOUT_S):
            await check(settings)
    except TimeoutError:
        return f"no answer within {TRY_TIMEOUT_S:g} s"
    except DependencyUnavailable as error:
        return error.detail
    return None


def _said(error: Exception) -> str:
    """The first line of what a driver said, without secrets."""
    root = getattr(error, "orig", None) or error
    return redact_text(str(root).partition("\n")[0]) or type(root).__name__
