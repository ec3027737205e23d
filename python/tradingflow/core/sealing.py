"""Secrets at rest: AES-256-GCM (NIST SP 800-38D) under a key from the settings, bound to the row they belong to.

The associated data is the row's id and owner, so a ciphertext copied to another row or account does not open.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tradingflow.core.errors import InvariantBroken

KEY_BYTES = 32
NONCE_BYTES = 12
_DOMAIN = b"tradingflow.sealed.v1"


@dataclass(frozen=True)
class Sealed:
    """`data` is nonce, ciphertext and tag; `key_id` tells under which key."""

    key_id: str
    data: bytes


class Sealer:
    """Seals and opens under one key of 64 hex digits. Raises ValueError for a key of another form."""

    def __init__(self, hex_key: str) -> None:
        key = bytes.fromhex(hex_key)
        if len(key) != KEY_BYTES:
            raise ValueError("CREDENTIALS_KEY must have 64 hex digits")
        self.key_id = hashlib.sha256(_DOMAIN + key).hexdigest()[:16]
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, row_id: UUID, owner_id: UUID) -> Sealed:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return Sealed(self.key_id, nonce + self._cipher.encrypt(nonce, secret, self._bound_to(row_id, owner_id)))

    def open(self, sealed: Sealed, row_id: UUID, owner_id: UUID) -> bytes:
        """Raises InvariantBroken when it was sealed under another key, for another row, or altered."""
        if sealed.key_id != self.key_id:
            raise InvariantBroken("sealed_under_other_key", f"a secret was sealed under key {sealed.key_id}")
        nonce, ciphertext = sealed.data[:NONCE_BYTES], sealed.data[NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, ciphertext, self._bound_to(row_id, owner_id))
        except InvalidTag as error:
            raise InvariantBroken("sealed_secret_altered", "a sealed secret does not belong to its row") from error

    def _bound_to(self, row_id: UUID, owner_id: UUID) -> bytes:
        return _DOMAIN + self.key_id.encode() + row_id.bytes + owner_id.bytes
