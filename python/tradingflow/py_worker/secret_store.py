"""Credentials users stored for their nodes, opened for one run of one of their own flows."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from tradingflow.core.errors import Refused
from tradingflow.core.sealing import Sealed, Sealer
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Credential
from tradingflow.py_worker.kit import SecretRef


@dataclass(frozen=True)
class SecretStore:
    """Reads and opens; writing is the Account Manager's."""

    sessions: SessionFactory
    sealer: Sealer

    def for_owner(self, owner: UUID) -> OwnedSecrets:
        return OwnedSecrets(self, owner)


@dataclass(frozen=True)
class OwnedSecrets:
    """`Secrets` of one user."""

    store: SecretStore
    owner: UUID

    async def reveal(self, reference: SecretRef) -> str:
        """Raises Refused("secret_unknown") for a name this user stored nothing under."""
        async with self.store.sessions() as session:
            found = await session.scalar(
                select(Credential).where(Credential.user_id == self.owner, Credential.name == reference.name)
            )
        if found is None:
            raise Refused("secret_unknown", f"you have stored no secret named {reference.name!r}")
        return self.store.sealer.open(Sealed(found.key_id, found.sealed), found.id, self.owner).decode()

    def conceal(self, reference: SecretRef, value: str) -> None:
        """Nothing is kept here; the journal around a run does what is asked."""
