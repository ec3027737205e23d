"""Whether a wallet signed a message: by its key (EOA)."""

from __future__ import annotations

from tradingflow.chain.client import ChainClient
from tradingflow.chain.signature import SIGNATURE_BYTES, personal_message_hash, recover_signer
from tradingflow.core.errors import InvalidInput, Unauthenticated


class SignatureVerifier:
    def __init__(self, chain: ChainClient) -> None:
        self._chain = chain

    async def verify(self, address: str, message: str, signature: bytes) -> None:
        """Raises Unauthenticated unless `address` signed `message`."""
        digest = personal_message_hash(message)
        if len(signature) == SIGNATURE_BYTES and _recovers_to(address, digest, signature):
            return
        raise Unauthenticated("invalid_signature", "the signature is not the one of this wallet over this message")


def _recovers_to(address: str, digest: bytes, signature: bytes) -> bool:
    try:
        return recover_signer(digest, signature) == address
    except InvalidInput:
        return False
