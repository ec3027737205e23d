"""One time for all services: the database server's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.core.clock import SteadyClock
from tradingflow.core.logging import get_logger

log = get_logger(__name__)

# A counter drifts by less than a millisecond in this time; a machine that was suspended is back in step after it.
LOOK_EVERY_S = 10.0
RETRY_S = 1.0
# A look this long does not say well enough when it was answered.
LONGEST_LOOK_S = 0.2
# A service starts without its database, too.
FIRST_LOOK_TIMEOUT_S = 5.0


class DatabaseClock(SteadyClock):
    """PostgreSQL's clock, looked at now and then and carried on in between.

    Schedules, deadlines and what is deleted by age go by it, so that a machine with a wrong clock fires no flow early
    and deletes nothing. Before the first look it is this machine's clock.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__()
        self._engine = engine

    async def keep(self) -> None:
        """Look again and again until cancelled; while the database is away the counter carries on."""
        while True:
            try:
                await self.look()
            except (SQLAlchemyError, OSError) as error:
                log.debug("database clock not read", error=error)
                await asyncio.sleep(RETRY_S)
            else:
                await asyncio.sleep(LOOK_EVERY_S)

    async def first_look(self) -> None:
        """Look once, without insisting."""
        try:
            async with asyncio.timeout(FIRST_LOOK_TIMEOUT_S):
                await self.look()
        except (SQLAlchemyError, OSError) as error:
            log.warning("the time is this machine's until the database answers", error=error)

    async def look(self) -> None:
        """Go by the database's time from now on. Raises SQLAlchemyError or OSError when it cannot be asked."""
        async with self._engine.connect() as connection:
            await connection.scalar(select(1))  # what opening takes is not to count
            asked = time.monotonic()
            at = await connection.scalar(select(func.clock_timestamp()))
            answered = time.monotonic()
        if at is not None and answered - asked <= LONGEST_LOOK_S:
            self._set(at, (asked + answered) / 2)


@asynccontextmanager
async def database_clock(engine: AsyncEngine) -> AsyncIterator[DatabaseClock]:
    """A clock that is kept as long as the block lasts."""
    clock = DatabaseClock(engine)
    await clock.first_look()
    keeping = asyncio.create_task(clock.keep(), name="database clock")
    try:
        yield clock
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
