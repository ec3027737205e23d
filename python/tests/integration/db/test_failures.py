"""Which failures are told to pass by themselves."""

from __future__ import annotations

import pytest
from sqlalchemy import literal, select
from sqlalchemy.exc import InterfaceError
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.db.failures import passing_told

# Of PostgreSQL's protocol, as asyncpg speaks it.
MOST_PARAMETERS = 32_767


async def test_a_lost_connection_passes(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        (await connection.get_raw_connection()).driver_connection.terminate()  # type: ignore[union-attr]
        with pytest.raises(DependencyUnavailable), passing_told():
            await connection.execute(select(literal(1)))


async def test_a_statement_the_driver_will_never_send_does_not_pass(engine: AsyncEngine) -> None:
    too_many = select(1).where(literal(1).in_(range(MOST_PARAMETERS)))
    async with engine.connect() as connection:
        with pytest.raises(InterfaceError), passing_told():
            await connection.execute(too_many)
