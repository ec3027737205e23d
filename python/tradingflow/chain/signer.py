"""Whoever can sign for an operator address: a local key here, a key service in `key_service_signer`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from eth_account import Account
from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes

from tradingflow.chain.fees import Fees
from tradingflow.core.errors import InvalidInput

EIP1559 = 2


@dataclass(frozen=True)
class UnsignedTransaction:
    """An EIP-1559 transaction. `gas_limit` in gas, `value` in wei."""

    chain_id: int
    nonce: int
    to: str
    data: bytes
    gas_limit: int
    fees: Fees
    value: int = 0


@dataclass(frozen=True)
class SignedTransaction:
    raw: bytes
    hash: str


def as_dict(transaction: UnsignedTransaction) -> dict[str, Any]:
    """As eth-account takes it."""
    return {
        "type": EIP1559,
        "chainId": transaction.chain_id,
        "nonce": transaction.nonce,
        "to": HexBytes(transaction.to),
        "data": HexBytes(transaction.data),
        "value": transaction.value,
        "gas": transaction.gas_limit,
        "maxFeePerGas": transaction.fees.max_fee,
        "maxPriorityFeePerGas": transaction.fees.tip,
    }


class Signer(Protocol):
    """Signs for exactly one address, in this process or over the network. An implementation never shows its key."""

    @property
    def address(self) -> str: ...

    async def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """Raises DependencyUnavailable when the key cannot be reached."""
        ...


class LocalSigner:
    """A key held in this process's memory."""

    def __init__(self, account: LocalAccount) -> None:
        self._account = account

    def __repr__(self) -> str:
        return f"LocalSigner({self.address})"

    @property
    def address(self) -> str:
        return str(self._account.address)

    async def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        signed = self._account.sign_transaction(as_dict(transaction))
        return SignedTransaction(bytes(signed.raw_transaction), HexBytes(signed.hash).to_0x_hex())

    @classmethod
    def from_key(cls, private_key: str) -> LocalSigner:
        """From 32 bytes of hex. Raises InvalidInput, which does not repeat the key."""
        try:
            return cls(Account.from_key(private_key))
        except Exception:  # noqa: BLE001  what the library says may hold the key: nothing of it goes on
            raise InvalidInput("invalid_operator_key", "an operator key is 32 bytes of hex") from None

    @classmethod
    def from_keystore(cls, file: Path, password: str) -> LocalSigner:
        """From a Web3 Secret Storage file. Raises InvalidInput."""
        try:
            return cls(Account.from_key(Account.decrypt(json.loads(file.read_text()), password)))
        except Exception:  # noqa: BLE001  as above, for the password
            raise InvalidInput("invalid_keystore", f"{file.name} cannot be opened with this password") from None
