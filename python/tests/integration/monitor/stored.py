"""What the Monitor stored, for tests to look at."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.db.models.chain import ChainBlock, ChainCursor, ContractEvent, MonitoredContract
from tradingflow.db.models.outbox import OutboxMessage
from tradingflow.monitor.follower import Follower


async def catch_up(follower: Follower) -> None:
    """Run rounds until one finds nothing more to do."""
    while not await follower.round():
        pass


@dataclass(frozen=True)
class Stored:
    engine: AsyncEngine
    chain_id: int

    async def events(self) -> list[Row[Any]]:
        query = select(ContractEvent.__table__).order_by(ContractEvent.block_number, ContractEvent.log_index)
        return await self._rows(query)

    async def contracts(self) -> list[Row[Any]]:
        return await self._rows(select(MonitoredContract.__table__).order_by(MonitoredContract.address))

    async def blocks(self) -> list[Row[Any]]:
        return await self._rows(select(ChainBlock.__table__).order_by(ChainBlock.number))

    async def cursor(self) -> Row[Any]:
        return (await self._rows(select(ChainCursor.__table__)))[0]

    async def monitor(self, address: str, kind: str, from_block: int = 0) -> None:
        """Add a contract as another service would."""
        row = {"chain_id": self.chain_id, "address": address, "kind": kind, "from_block": from_block}
        async with self.engine.begin() as connection:
            await connection.execute(insert(MonitoredContract), [row])

    async def slow_down(self, pause_s: float) -> None:
        """From now on every batch of blocks takes so long to be stored."""
        function = (
            "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$BEGIN PERFORM pg_sleep({pause_s}); RETURN NULL; END$$"
        )
        trigger = "CREATE TRIGGER pause AFTER INSERT ON chain_blocks FOR EACH STATEMENT EXECUTE FUNCTION pause()"
        async with self.engine.begin() as connection:
            await connection.execute(text(function))
            await connection.execute(text(trigger))

    async def speed_up(self) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text("DROP FUNCTION pause() CASCADE"))

    async def outbox(self) -> list[Row[Any]]:
        return await self._rows(select(OutboxMessage.__table__).order_by(OutboxMessage.id))

    async def _rows(self, query: Any) -> list[Row[Any]]:
        async with self.engine.connect() as connection:
            return list((await connection.execute(query)).all())
