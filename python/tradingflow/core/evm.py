"""EVM words: keccak, checksummed addresses (EIP-55), 32-byte hashes. Pure.

In Python an address is always the checksummed string and a hash the lower-case 0x string; both are made
here, at the edge where the value comes in.
"""

from __future__ import annotations

import re
from functools import lru_cache

from eth_hash.auto import keccak as _keccak

from tradingflow.core.errors import InvalidInput

ZERO_ADDRESS = "0x" + "00" * 20
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_HASH32 = re.compile(r"0x[0-9a-fA-F]{64}")


def keccak(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it (not NIST SHA3-256)."""
    return _keccak(data)


@lru_cache(maxsize=65_536)
def _checksummed(hexits: str) -> str:
    digest = keccak(hexits.encode()).hex()
    letters = zip(hexits, hexits.upper(), digest, strict=False)
    return "0x" + "".join([upper if nibble >= "8" else lower for lower, upper, nibble in letters])


def address_from_bytes(raw: bytes) -> str:
    """The EIP-55 form of a 20-byte address."""
    if len(raw) != 20:
        raise ValueError(f"an address has 20 bytes, this has {len(raw)}")
    return _checksummed(raw.hex())


def parse_address(text: str) -> str:
    """Normalise an address to EIP-55.

    All-lower and all-upper hex are taken as unchecked; mixed case must carry the right checksum, since a
    wrong one means a mistyped address. Raises InvalidInput.
    """
    if not _ADDRESS.fullmatch(text):
        raise InvalidInput("invalid_address", "an address is 0x followed by 40 hex digits")
    hexits = text[2:]
    checksummed = _checksummed(hexits.lower())
    if hexits not in (hexits.lower(), hexits.upper()) and text != checksummed:
        raise InvalidInput(
            "invalid_address", f"the EIP-55 checksum of {text} does not match; it would be {checksummed}"
        )
    return checksummed


def parse_hash32(text: str) -> str:
    """Normalise a 32-byte hash (transaction, block, trade id) to lower-case 0x hex. Raises InvalidInput."""
    if not _HASH32.fullmatch(text):
        raise InvalidInput("invalid_hash", "a hash is 0x followed by 64 hex digits")
    return text.lower()


def to_bytes(hex_text: str) -> bytes:
    return bytes.fromhex(hex_text[2:])
