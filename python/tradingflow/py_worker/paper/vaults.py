"""Paper vaults in PostgreSQL: opened with given balances, or as a copy of the owner's real vault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tradingflow.chain.client import ChainClient
from tradingflow.chain.vault_policy import PolicyLedger, VaultPolicy
from tradingflow.chain.vault_settings import VaultSnapshot, read_vault
from tradingflow.core.errors import NotFound, Refused
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import PaperVault, Vault
from tradingflow.py_worker.paper.terms import PolicyTerms, balances_from, balances_json, ledger_from, ledger_json
from tradingflow.py_worker.simulation.vault import SimulatedVault


@dataclass(frozen=True, slots=True)
class VaultKey:
    """Whose vault, where. `address` is EIP-55."""

    user_id: UUID
    chain_id: int
    address: str


@dataclass(frozen=True)
class PaperVaults:
    """Finds, opens and changes paper vaults. `clients` are the chains served."""

    sessions: SessionFactory
    clients: Mapping[int, ChainClient]

    async def ensure(self, key: VaultKey) -> None:
        """Open the vault as a copy of the real one on first use. Raises Refused when the owner has neither."""
        async with self.sessions() as session:
            if await find(session, key) is not None:
                return
        snapshot = await self.snapshot(key)
        async with self.sessions.begin() as session:
            await put(session, key, snapshot.policy, snapshot.ledger, dict(snapshot.balances), replace=False)

    async def snapshot(self, key: VaultKey) -> VaultSnapshot:
        """The owner's real vault as it stands. Raises Refused("unknown_vault")."""
        async with self.sessions() as session:
            created = await session.scalar(
                select(Vault.created_block).where(
                    Vault.user_id == key.user_id, Vault.chain_id == key.chain_id, Vault.address == key.address
                )
            )
        client = self.clients.get(key.chain_id)
        if created is None or client is None:
            raise Refused(
                "unknown_vault",
                f"the flow's owner has no vault {key.address} on chain {key.chain_id}, and has opened none on paper",
            )
        return await read_vault(client, key.address, created)


async def find(session: AsyncSession, key: VaultKey, *, lock: bool = False) -> PaperVault | None:
    statement = select(PaperVault).where(
        PaperVault.user_id == key.user_id, PaperVault.chain_id == key.chain_id, PaperVault.address == key.address
    )
    return await session.scalar(statement.with_for_update() if lock else statement)


async def get(session: AsyncSession, key: VaultKey, *, lock: bool = False) -> PaperVault:
    """Raises NotFound."""
    found = await find(session, key, lock=lock)
    if found is None:
        raise NotFound("paper vault", key.address)
    return found


async def put(
    session: AsyncSession,
    key: VaultKey,
    policy: VaultPolicy,
    ledger: PolicyLedger,
    balances: dict[str, int],
    *,
    replace: bool,
) -> None:
    """Open the vault. `replace` puts an open one back to these terms; else it is left as it is."""
    content = {
        "policy": PolicyTerms.of(policy).model_dump(mode="json"),
        "ledger": ledger_json(ledger),
        "balances": balances_json(balances),
    }
    identity = {"user_id": key.user_id, "chain_id": key.chain_id, "address": key.address}
    statement = insert(PaperVault).values(**identity, **content)
    if replace:
        statement = statement.on_conflict_do_update(index_elements=list(identity), set_=content)
    else:
        statement = statement.on_conflict_do_nothing()
    await session.execute(statement)


def simulated(row: PaperVault) -> SimulatedVault:
    """The vault of a row, to be traded with."""
    policy = PolicyTerms.model_validate(row.policy).to_policy()
    return SimulatedVault(row.address, row.chain_id, policy, balances_from(row.balances), ledger_from(row.ledger))


def keep(row: PaperVault, vault: SimulatedVault) -> None:
    """Write a traded vault back to its row."""
    row.balances = dict(balances_json(vault.balances))
    row.ledger = ledger_json(vault.ledger)
