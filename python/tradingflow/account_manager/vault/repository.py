"""Vaults, deployments, and what vault events say, for reading; verified vaults are written by the deployment job."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, literal_column, select, true, union
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.core.evm import parse_address
from tradingflow.db.models import ContractEvent, Signer, Vault, VaultDeployment


async def vault_of(session: AsyncSession, user_id: UUID, chain_id: int, address: str) -> Vault | None:
    vault: Vault | None = await session.scalar(
        select(Vault).where(Vault.user_id == user_id, Vault.chain_id == chain_id, Vault.address == address)
    )
    return vault


async def vaults_of(session: AsyncSession, user_id: UUID) -> list[Vault]:
    return list(await session.scalars(select(Vault).where(Vault.user_id == user_id).order_by(Vault.created_at)))


async def vaults_of_owner(session: AsyncSession, user_id: UUID, chain_id: int, owner: str) -> list[Vault]:
    statement = (
        select(Vault)
        .where(Vault.user_id == user_id, Vault.chain_id == chain_id, Vault.owner_address == owner)
        .order_by(Vault.created_at)
    )
    return list(await session.scalars(statement))


async def add_deployment(session: AsyncSession, values: dict[str, Any]) -> VaultDeployment:
    """The new one, or the one this user already has of this request key."""
    statement = insert(VaultDeployment).values(**values)
    await session.execute(statement.on_conflict_do_nothing(index_elements=["user_id", "request_key"]))
    chosen = _by_key(values["user_id"], values["request_key"])
    return (await session.scalars(chosen)).one()


async def deployment_by_key(session: AsyncSession, user_id: UUID, request_key: str) -> VaultDeployment | None:
    deployment: VaultDeployment | None = await session.scalar(_by_key(user_id, request_key))
    return deployment


def _by_key(user_id: UUID, request_key: str) -> Select[VaultDeployment]:
    return select(VaultDeployment).where(VaultDeployment.user_id == user_id, VaultDeployment.request_key == request_key)


async def deployment_of(session: AsyncSession, user_id: UUID, deployment_id: UUID) -> VaultDeployment | None:
    statement = select(VaultDeployment).where(VaultDeployment.user_id == user_id, VaultDeployment.id == deployment_id)
    deployment: VaultDeployment | None = await session.scalar(statement)
    return deployment


async def operator_address(session: AsyncSession, chain_id: int) -> str | None:
    held = (Signer.chain_id == chain_id, Signer.retired_at.is_(None))
    statement = select(Signer.address).where(*held).order_by(Signer.address).limit(1)
    address: str | None = await session.scalar(statement)
    return address


async def owners_tokens(session: AsyncSession, chain_id: int, vault: str, owner: str) -> set[str]:
    """Every token the vault's own events say its owner deposited, its policy named or it traded.

    Anybody may deposit any token: what a stranger brings counts only when it is one of these.
    """
    name, args = ContractEvent.name, ContractEvent.args
    by_owner = args["user"].astext == owner
    naming = (
        ("token", name == literal_column("'UserDeposit'"), by_owner),
        ("token", name == literal_column("'TokenPolicySet'"), true()),
        ("tokenIn", name == literal_column("'TradeExecuted'"), true()),
        ("tokenOut", name == literal_column("'TradeExecuted'"), true()),
    )
    named = union(
        *(
            select(args[key].astext.label("token")).where(
                ContractEvent.chain_id == chain_id, ContractEvent.address == vault, *where
            )
            for key, *where in naming
        )
    ).subquery()
    found = await session.scalars(select(named.c.token).where(named.c.token.is_not(None)))
    return {parse_address(token) for token in found}


async def routers_in_events(session: AsyncSession, chain_id: int, vault: str) -> set[str]:
    """Every router whose permission was ever set."""
    statement = select(func.distinct(ContractEvent.args["router"].astext)).where(
        ContractEvent.chain_id == chain_id,
        ContractEvent.address == vault,
        ContractEvent.name == literal_column("'RouterSet'"),
    )
    return {parse_address(router) for router in await session.scalars(statement) if router}
