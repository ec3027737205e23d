"""Deployment rows as the executor changes them. The commit is the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.account_manager.relayer import repository as transactions
from tradingflow.account_manager.relayer.transitions import ENDED_DEPLOYMENTS, DeploymentStatus, deployment_sources
from tradingflow.db.models import Transaction, Vault, VaultDeployment


async def find(session: AsyncSession, deployment_id: UUID) -> VaultDeployment | None:
    return await session.get(VaultDeployment, deployment_id)


async def lock(session: AsyncSession, deployment_id: UUID) -> VaultDeployment:
    """The row as it is now, locked until the caller commits."""
    return await session.get_one(VaultDeployment, deployment_id, with_for_update=True, populate_existing=True)


async def unended(
    session: AsyncSession, limit: int, after: tuple[datetime, UUID] | None = None
) -> list[VaultDeployment]:
    """Deployments that have not ended, oldest first."""
    query = (
        select(VaultDeployment)
        .where(VaultDeployment.status.not_in(ENDED_DEPLOYMENTS))
        .order_by(VaultDeployment.created_at, VaultDeployment.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(VaultDeployment.created_at, VaultDeployment.id) > after)
    return list(await session.scalars(query))


async def move(session: AsyncSession, deployment_id: UUID, target: DeploymentStatus, **values: Any) -> bool:
    """Change the status where the table of transitions allows it; False when it does not."""
    moved = await session.execute(
        update(VaultDeployment)
        .where(VaultDeployment.id == deployment_id, VaultDeployment.status.in_(deployment_sources(target)))
        .values(status=target, **values)
        .returning(VaultDeployment.id)
    )
    return moved.first() is not None


async def record_sent(session: AsyncSession, deployment_id: UUID, transaction_hash: str) -> None:
    """A node has taken the transaction. Another executor may have seen it mined since: that stays."""
    await session.execute(
        update(VaultDeployment)
        .where(VaultDeployment.id == deployment_id, VaultDeployment.status == DeploymentStatus.SIGNED)
        .values(status=DeploymentStatus.BROADCAST, transaction_hash=transaction_hash)
    )


async def reopen(session: AsyncSession, deployment_id: UUID, attempts: Sequence[Transaction]) -> bool:
    """A reorg took the slot's transaction out of the chain: it has to be mined again.

    False when nobody follows the slot: the deployment failed, or its user is gone.
    """
    row = await session.get(VaultDeployment, deployment_id, with_for_update=True, populate_existing=True)
    if row is None or row.status == DeploymentStatus.FAILED:
        return False
    if await move(session, deployment_id, DeploymentStatus.BROADCAST):
        await transactions.record_unmined(session, attempts)
    return True


async def add_vault(session: AsyncSession, deployment: VaultDeployment, factory: str, created_block: int) -> None:
    """The verified vault of a deployment; of one that is there already a reorg may have changed the block."""
    await session.execute(
        insert(Vault)
        .values(
            user_id=deployment.user_id,
            chain_id=deployment.chain_id,
            address=deployment.predicted_address,
            owner_address=deployment.owner_address,
            factory=factory,
            created_block=created_block,
        )
        .on_conflict_do_update(index_elements=["chain_id", "address"], set_={"created_block": created_block})
    )
