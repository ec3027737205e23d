"""How secrets of ours are kept: only their hash."""

from __future__ import annotations

import hashlib


def hash_secret(secret: str) -> bytes:
    """SHA-256 is enough for secrets of 256 random bits: there is nothing to guess."""
    return hashlib.sha256(secret.encode()).digest()
