"""The operator keys of this process, and the row each has in the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

from tradingflow.chain.signer import LocalSigner, Signer
from tradingflow.core.config import ExecutorSettings
from tradingflow.core.errors import InvalidInput, Refused


class SignerSet:
    """Signers by address. Empty is allowed: then nothing can be sent, and everything asked for is refused."""

    def __init__(self, signers: Iterable[Signer]) -> None:
        self._signers: Mapping[str, Signer] = {signer.address: signer for signer in signers}

    @classmethod
    def from_settings(cls, settings: ExecutorSettings) -> Self:
        """Raises InvalidInput for a key or keystore that cannot be read."""
        keys = [key for text in settings.operator_private_key.get_secret_value().split(",") if (key := text.strip())]
        signers = [LocalSigner.from_key(key) for key in keys]
        if settings.operator_keystore is not None:
            password = settings.operator_keystore_password.get_secret_value()
            signers.append(LocalSigner.from_keystore(settings.operator_keystore, password))
        if len({signer.address for signer in signers}) < len(signers):
            raise InvalidInput("duplicate_operator_key", "each operator key may be given once")
        return cls(signers)

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self._signers)

    def of(self, address: str | None) -> Signer:
        """Raises Refused `operator_not_ours` when the vault's operator is nobody or somebody else."""
        signer = self._signers.get(address or "")
        if signer is None:
            ours = ", ".join(self.addresses) or "none"
            named = address or "nobody"
            raise Refused("operator_not_ours", f"the vault's operator is {named}; ours: {ours}")
        return signer
