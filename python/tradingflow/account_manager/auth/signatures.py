"""Whether a wallet signed a message: by its key (EOA), or by its contract (ERC-1271, ERC-6492)."""

from __future__ import annotations

from tradingflow.chain.client import ChainClient
from tradingflow.chain.contract_signature import contract_agrees
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
        if not await self._contract_agrees(address, digest, signature):
            raise Unauthenticated("invalid_signature", "the signature is not the one of this wallet over this message")

    async def _contract_agrees(self, address: str, digest: bytes, signature: bytes) -> bool:
        try:
            return await contract_agrees(self._chain, address, digest, signature)
        except InvalidInput:
            return False


def _recovers_to(address: str, digest: bytes, signature: bytes) -> bool:
    try:
        return recover_signer(digest, signature) == address
    except InvalidInput:
        return False
