"""Signatures over personal messages (EIP-191): who made them."""

from __future__ import annotations

import coincurve

from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import address_from_bytes, keccak

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER = CURVE_ORDER // 2
SIGNATURE_BYTES = 65


def personal_message_hash(message: str) -> bytes:
    """What a wallet signs for `personal_sign`: EIP-191 version 0x45."""
    body = message.encode()
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(body)).encode() + body)


def recover_signer(digest: bytes, signature: bytes) -> str:
    """The address whose key signed `digest`.

    `signature` is r, s, v: 65 bytes, v 27 or 28, s in the lower half of the curve order (EIP-2), so that one
    signature has one spelling. Raises InvalidInput for anything else.
    """
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        raise InvalidInput("invalid_signature", "a signature has 65 bytes: r, s and v, with v 27 or 28")
    if int.from_bytes(signature[32:64]) > _HALF_ORDER:
        raise InvalidInput("invalid_signature", "the signature's s lies in the upper half of the curve order (EIP-2)")
    recoverable = signature[:64] + bytes([signature[64] - 27])
    try:
        key = coincurve.PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    except ValueError as error:
        raise InvalidInput("invalid_signature", "no key can have made this signature") from error
    return address_from_bytes(keccak(key.format(compressed=False)[1:])[12:])
