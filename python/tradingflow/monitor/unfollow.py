"""Which contracts nobody wants any more, and how an operator ends following one.

What users add stays followed when they remove it: others may read its events by then. So it is a person who ends it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, delete, exists, func, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tradingflow.core.errors import Conflict, NotFound
from tradingflow.db.models.chain import ContractEvent, ContractImplementation, MonitoredContract, UserContract
from tradingflow.db.models.vault import Vault
from tradingflow.monitor.contracts import Contract
from tradingflow.monitor.store import CONTRACT_FIELDS, ChainStore


async def unwanted(engine: AsyncEngine, chain_id: int, configured: Collection[str]) -> Sequence[Contract]:
    """Followed contracts that no user has registered, no factory announced and CHAINS does not name, oldest first.

    What an operator followed is among them, too.
    """
    query = (
        select(*CONTRACT_FIELDS)
        .where(
            MonitoredContract.chain_id == chain_id,
            MonitoredContract.discovered_by.is_(None),
            MonitoredContract.address.not_in(configured),
            not_(exists().where(*_same(UserContract))),
            not_(exists().where(*_same(Vault))),
        )
        .order_by(MonitoredContract.from_block, MonitoredContract.address)
    )
    async with engine.connect() as connection:
        return [Contract(*row) for row in await connection.execute(query)]


def _same(table: type[UserContract | Vault]) -> tuple[ColumnElement[bool], ...]:
    return table.chain_id == MonitoredContract.chain_id, table.address == MonitoredContract.address


async def unfollow(
    engine: AsyncEngine, store: ChainStore, chain_id: int, address: str, configured: Collection[str], *, users_too: bool
) -> int:
    """Forget a contract with its events; returns how many there were. With `users_too` also where users have it.

    One transaction, which a running Monitor sees at its next block. Raises NotFound, and Conflict where it would come
    back or is still wanted.
    """
    ours = (MonitoredContract.chain_id == chain_id, MonitoredContract.address == address)
    async with engine.begin() as connection:
        await store.change_followed(connection)
        found = (await connection.execute(select(MonitoredContract.discovered_by).where(*ours))).one_or_none()
        if found is None:
            raise NotFound("monitored contract", address)
        if address in configured or found.discovered_by is not None:
            by = "CHAINS" if address in configured else f"the factory {found.discovered_by}"
            raise Conflict("still_followed", f"{by} names {address}, which would be followed again")
        if await connection.scalar(select(Vault.id).where(Vault.chain_id == chain_id, Vault.address == address)):
            raise Conflict("is_vault", f"{address} is a user's vault")
        await _take_from_users(connection, chain_id, address, users_too)
        await connection.execute(delete(MonitoredContract).where(*ours))
        steps = (ContractImplementation.chain_id == chain_id, ContractImplementation.address == address)
        await connection.execute(delete(ContractImplementation).where(*steps))
        events = (ContractEvent.chain_id == chain_id, ContractEvent.address == address)
        return int((await connection.execute(delete(ContractEvent).where(*events))).rowcount)


async def _take_from_users(connection: AsyncConnection, chain_id: int, address: str, users_too: bool) -> None:
    theirs = (UserContract.chain_id == chain_id, UserContract.address == address)
    users = await connection.scalar(select(func.count()).select_from(UserContract).where(*theirs))
    if users and not users_too:
        raise Conflict("still_wanted", f"{users} users have registered {address}; --users-too takes it from them")
    await connection.execute(delete(UserContract).where(*theirs))
