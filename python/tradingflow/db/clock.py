"""One time for all services: the database server's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.core.clock import Clock, SteadyClock
from tradingflow.core.logging import get_logger
from tradingflow.core.tasks import running

log = get_logger(__name__)

# A counter drifts by less than a millisecond in this time; a machine that was suspended is back in step after it.
LOOK_EVERY_S = 10.0
RETRY_S = 1.0
# A look this long does not say well enough when it was answered; the first one is still better than none.
LONGEST_LOOK_S = 0.2
# A connection that is gone without a word would otherwise hold the look for a quarter of an hour.
LOOK_TIMEOUT_S = 5.0


class DatabaseClock(SteadyClock):
    """PostgreSQL's clock, looked at now and then and carried on in between.

    Schedules, deadlines and what is deleted by age go by it, so that a machine with a wrong clock fires no flow early
    and deletes nothing. Before the first look it is this machine's clock; what must not go by that calls
    `ensure_known` first.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__()
        self._engine = engine
        self.is_known = False

    async def keep(self) -> None:
        """Look again and again until cancelled; while the database is away the counter carries on."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S if self.is_known else RETRY_S)
            await self.try_to_look()

    async def try_to_look(self) -> None:
        """Look without insisting."""
        try:
            await self.look()
        except Exception as error:  # noqa: BLE001 - the edge of a background loop: say it, wait, go on
            log.warning("the database's clock was not read", is_known=self.is_known, error=error)

    async def look(self) -> None:
        """Go by the database's time from now on. Raises SQLAlchemyError or OSError when it cannot be asked."""
        async with asyncio.timeout(LOOK_TIMEOUT_S), self._engine.connect() as connection:
            await connection.scalar(select(1))  # what opening takes is not to count
            asked = time.monotonic()
            at = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
            answered = time.monotonic()
        if not self.is_known or answered - asked <= LONGEST_LOOK_S:
            self._set(at, (asked + answered) / 2)
            self.is_known = True


async def ensure_known(clock: Clock) -> None:
    """From here on `clock` is right. Raises SQLAlchemyError or OSError when the database cannot be asked."""
    if isinstance(clock, DatabaseClock) and not clock.is_known:
        await clock.look()


@asynccontextmanager
async def database_clock(engine: AsyncEngine) -> AsyncIterator[DatabaseClock]:
    """A clock that is kept as long as the block lasts. It opens without the database, too."""
    clock = DatabaseClock(engine)
    await clock.try_to_look()
    async with running(clock.keep()):
        yield clock
