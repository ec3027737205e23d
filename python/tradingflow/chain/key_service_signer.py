"""Signing with a key that never leaves a key service (KMS, HSM).

Such services sign 32 bytes and answer in DER (SEC 1), with s anywhere and without the recovery bit. Ethereum wants s in
the lower half (EIP-2) and the bit, which is found by trying both.
"""

from __future__ import annotations

from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from eth_account.typed_transactions.typed_transaction import TypedTransaction

from tradingflow.chain.signature import CURVE_ORDER, recover_signer
from tradingflow.chain.signer import SignedTransaction, UnsignedTransaction, as_dict
from tradingflow.core.errors import DependencyUnavailable, InvalidInput, InvariantBroken
from tradingflow.core.evm import keccak


class KeyService(Protocol):
    """One secp256k1 key in a key service."""

    async def sign_digest(self, digest: bytes) -> bytes:
        """The DER signature of 32 bytes. Raises DependencyUnavailable when the service does not answer."""
        ...


class KeyServiceSigner:
    """A `Signer` for the address of the service's key."""

    def __init__(self, address: str, service: KeyService) -> None:
        self._address = address
        self._service = service

    @property
    def address(self) -> str:
        return self._address

    async def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """Raises InvariantBroken when the service signs with another key than this address's."""
        content = as_dict(transaction)
        digest = bytes(TypedTransaction.from_dict(content).hash())
        r, s = _lower(await self._service.sign_digest(digest))
        signed: dict[str, Any] = {**content, "r": r, "s": s, "v": self._recovery_bit(digest, r, s)}
        raw = bytes(TypedTransaction.from_dict(signed).encode())
        return SignedTransaction(raw, "0x" + keccak(raw).hex())

    def _recovery_bit(self, digest: bytes, r: int, s: int) -> int:
        for bit in (0, 1):
            try:
                found = recover_signer(digest, r.to_bytes(32) + s.to_bytes(32) + bytes([27 + bit]))
            except InvalidInput:
                continue
            if found == self._address:
                return bit
        raise InvariantBroken("wrong_key", f"the key service does not sign for {self._address}")


def _lower(der: bytes) -> tuple[int, int]:
    try:
        r, s = decode_dss_signature(der)
    except ValueError as error:
        raise DependencyUnavailable("key_service_failed", "the key service sent no DER signature") from error
    return r, min(s, CURVE_ORDER - s)
