"""What a preflight asks the database. Every query is bound to the flow's owner."""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.db.models import Cycle, Flow, NodeTask, Signer, Vault


async def vaults_of(session: AsyncSession, owner: UUID) -> frozenset[tuple[int, str]]:
    """Chain and address of every vault of the owner."""
    rows = await session.execute(select(Vault.chain_id, Vault.address).where(Vault.user_id == owner))
    return frozenset((chain_id, address) for chain_id, address in rows)


async def operators(session: AsyncSession) -> dict[int, frozenset[str]]:
    """The operators the executors sign for, by chain."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    held = select(Signer.chain_id, Signer.address).where(Signer.retired_at.is_(None))
    for chain_id, address in await session.execute(held):
        found[chain_id].add(address)
    return {chain_id: frozenset(addresses) for chain_id, addresses in found.items()}


async def tried_nodes(session: AsyncSession, flow: Flow) -> frozenset[str]:
    """Nodes that have completed in a cycle of the flow's current version."""
    of_version = (Cycle.flow_pk == flow.id) & (Cycle.version == flow.current_version)
    completed = (
        select(NodeTask.node_id)
        .join(Cycle, (Cycle.flow_pk == NodeTask.flow_pk) & (Cycle.cycle == NodeTask.cycle))
        .where(of_version, NodeTask.status == "completed")
        .distinct()
    )
    return frozenset(await session.scalars(completed))
