from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import Row, Select, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.db.models import ContractAbi, MonitoredContract, UserContract, Vault

ContractRow: TypeAlias = Row[UserContract, MonitoredContract | None]


async def keep_abi(session: AsyncSession, kind: str, user_id: UUID, entries: list[dict[str, Any]]) -> None:
    await session.execute(
        insert(ContractAbi).values(kind=kind, user_id=user_id, entries=entries).on_conflict_do_nothing()
    )


async def abi_of(session: AsyncSession, kind: str) -> list[dict[str, Any]] | None:
    entries: list[dict[str, Any]] | None = await session.scalar(
        select(ContractAbi.entries).where(ContractAbi.kind == kind)
    )
    return entries


async def monitor(session: AsyncSession, chain_id: int, address: str, kind: str, from_block: int) -> None:
    """Put a contract before the Monitor, which takes it up at its next round; what is monitored stays as it is."""
    values = {"chain_id": chain_id, "address": address, "kind": kind, "from_block": from_block}
    await session.execute(insert(MonitoredContract).values(**values).on_conflict_do_nothing())


async def add(session: AsyncSession, contract: UserContract) -> None:
    session.add(contract)
    await session.flush()


async def count(session: AsyncSession, user_id: UUID) -> int:
    return int(await session.scalar(select(func.count()).where(UserContract.user_id == user_id)) or 0)


async def contracts_of(session: AsyncSession, user_id: UUID) -> Sequence[ContractRow]:
    return (await session.execute(_mine(user_id).order_by(UserContract.created_at))).all()


async def find(session: AsyncSession, user_id: UUID, contract_id: UUID) -> ContractRow | None:
    return (await session.execute(_mine(user_id).where(UserContract.id == contract_id))).one_or_none()


async def find_by_address(session: AsyncSession, user_id: UUID, chain_id: int, address: str) -> ContractRow | None:
    statement = _mine(user_id).where(UserContract.chain_id == chain_id, UserContract.address == address)
    return (await session.execute(statement)).one_or_none()


async def remove(session: AsyncSession, user_id: UUID, contract_id: UUID) -> bool:
    statement = delete(UserContract).where(UserContract.user_id == user_id, UserContract.id == contract_id)
    return await session.scalar(statement.returning(UserContract.id)) is not None


async def is_foreign_vault(session: AsyncSession, user_id: UUID, chain_id: int, address: str) -> bool:
    owner = await session.scalar(select(Vault.user_id).where(Vault.chain_id == chain_id, Vault.address == address))
    return owner is not None and owner != user_id


def _mine(user_id: UUID) -> Select[UserContract, MonitoredContract | None]:
    return (
        select(UserContract, MonitoredContract)
        .outerjoin(  # a reorg may have taken back the factory's event that announced it
            MonitoredContract,
            (MonitoredContract.chain_id == UserContract.chain_id) & (MonitoredContract.address == UserContract.address),
        )
        .where(UserContract.user_id == user_id)
    )
