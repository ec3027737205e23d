from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import Text, bindparam, cast, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.relayer.transitions import ENDED_DEPLOYMENTS
from tradingflow.db.models import (
    ApiKey,
    AuthSession,
    Base,
    Credential,
    Flow,
    FlowVersion,
    Trade,
    User,
    UserPreferences,
    Vault,
    VaultDeployment,
    Wallet,
)
from tradingflow.db.reads import PreparedRead, ReadPool

USER_WITH_WALLETS = PreparedRead(
    select(User.created_at, Wallet.address, Wallet.created_at.label("linked_at"))
    .join(Wallet, Wallet.user_id == User.id)
    .where(User.id == bindparam("user_id"))
    .order_by(Wallet.created_at)
)


async def user_with_wallets(reads: ReadPool, user_id: UUID) -> list[asyncpg.Record]:
    """(account made at, wallet's address, linked at), oldest wallet first; empty when the account is gone."""
    return await reads.fetch(USER_WITH_WALLETS, user_id=user_id)


async def wallet_addresses(session: AsyncSession, user_id: UUID) -> frozenset[str]:
    return frozenset(await session.scalars(select(Wallet.address).where(Wallet.user_id == user_id)))


async def lock_account(session: AsyncSession, user_id: UUID) -> bool:
    """Until the commit, other changes of this account's wallets and new vaults wait. False when it is gone."""
    return await session.scalar(select(User.id).where(User.id == user_id).with_for_update()) is not None


async def add_wallet(session: AsyncSession, wallet: Wallet) -> None:
    session.add(wallet)
    await session.flush()


async def remove_wallet(session: AsyncSession, user_id: UUID, address: str) -> None:
    await session.execute(delete(Wallet).where(Wallet.user_id == user_id, Wallet.address == address))


async def owns_vaults(session: AsyncSession, user_id: UUID, address: str) -> bool:
    """Whether the wallet owns a vault or will own one that is being created.

    Asked in one statement: between two, a vault that is verified, or taken out by a reorg, would be seen by neither.
    """
    vaults = select(Vault.id).where(Vault.user_id == user_id, Vault.owner_address == address)
    coming = select(VaultDeployment.id).where(
        VaultDeployment.user_id == user_id,
        VaultDeployment.owner_address == address,
        VaultDeployment.status.not_in(ENDED_DEPLOYMENTS),
    )
    return bool(await session.scalar(select(vaults.exists() | coming.exists())))


async def preferences(session: AsyncSession, user_id: UUID, *, lock: bool = False) -> UserPreferences | None:
    statement = select(UserPreferences).where(UserPreferences.user_id == user_id)
    row: UserPreferences | None = await session.scalar(statement.with_for_update() if lock else statement)
    return row


async def save_preferences(session: AsyncSession, user_id: UUID, schema_version: int, values: dict[str, Any]) -> None:
    fields = {"schema_version": schema_version, "values": values}
    await session.execute(
        insert(UserPreferences)
        .values(user_id=user_id, **fields)
        .on_conflict_do_update(index_elements=["user_id"], set_={**fields, "updated_at": func.now()})
    )


async def credentials(session: AsyncSession, user_id: UUID) -> list[Credential]:
    return list(
        await session.scalars(select(Credential).where(Credential.user_id == user_id).order_by(Credential.name))
    )


async def credential(session: AsyncSession, user_id: UUID, name: str) -> Credential | None:
    row: Credential | None = await session.scalar(
        select(Credential).where(Credential.user_id == user_id, Credential.name == name).with_for_update()
    )
    return row


async def delete_credential(session: AsyncSession, user_id: UUID, credential_id: UUID) -> bool:
    statement = delete(Credential).where(Credential.user_id == user_id, Credential.id == credential_id)
    return await session.scalar(statement.returning(Credential.id)) is not None


async def running_work(session: AsyncSession, user_id: UUID) -> str | None:
    """What still acts in the user's name, as a word for the user; None when nothing does."""
    checks = (
        ("flows are still running", select(Flow.id).where(Flow.user_id == user_id, Flow.status == "running")),
        (
            "trades are still open",
            select(Trade.id).where(Trade.user_id == user_id, Trade.status.in_(("requested", "submitted"))),
        ),
        (
            "a vault is still being deployed",
            select(VaultDeployment.id).where(
                VaultDeployment.user_id == user_id,
                VaultDeployment.status.not_in(ENDED_DEPLOYMENTS),
            ),
        ),
    )
    for words, statement in checks:
        if await session.scalar(statement.limit(1)) is not None:
            return words
    return None


async def credential_holders(session: AsyncSession, user_id: UUID) -> list[UUID]:
    """Ids of all sessions and API keys, to be refused from now on."""
    found = [*await session.scalars(select(AuthSession.id).where(AuthSession.user_id == user_id))]
    return [*found, *await session.scalars(select(ApiKey.id).where(ApiKey.user_id == user_id))]


async def rows_of(session: AsyncSession, table: type[Base], user_id: UUID) -> list[Any]:
    """Every row of a table of a user's things, oldest first."""
    columns = table.__table__.c
    return list(await session.scalars(select(table).where(columns.user_id == user_id).order_by(columns.created_at)))


async def delete_user(session: AsyncSession, user_id: UUID) -> None:
    await session.execute(delete(User).where(User.id == user_id))


async def versions_of_flows(session: AsyncSession, user_id: UUID) -> list[tuple[Flow, int]]:
    """The flows with the numbers of their versions, oldest first."""
    statement = (
        select(Flow, FlowVersion.version)
        .join(FlowVersion, FlowVersion.flow_pk == Flow.id)
        .where(Flow.user_id == user_id)
        .order_by(Flow.created_at, FlowVersion.version)
    )
    return [(flow, version) for flow, version in await session.execute(statement)]


async def graph_text(session: AsyncSession, flow_pk: UUID, version: int) -> str | None:
    """The graph as JSON; None when the flow was deleted."""
    chosen = select(cast(FlowVersion.graph, Text))
    text: str | None = await session.scalar(
        chosen.where(FlowVersion.flow_pk == flow_pk, FlowVersion.version == version)
    )
    return text
