"""Whether a wallet signed a message: by its key (EOA), or by its contract (ERC-1271, ERC-6492)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tradingflow.chain.client import ChainClient
from tradingflow.chain.contract_signature import announced_agrees, deployed_agrees, is_announced, unwrap
from tradingflow.chain.signature import SIGNATURE_BYTES, personal_message_hash, recover_signer
from tradingflow.core.errors import InvalidInput, Unauthenticated


class SignatureVerifier:
    """An account belongs to an address, whichever chain its wallet is on, so all of `chains` are asked.

    The contracts at one address may have other owners on each chain, or none yet. A signature that only the chain
    the signer names has judged could come from a key that was removed on the others.
    """

    def __init__(self, chains: Mapping[int, ChainClient]) -> None:
        self._chains = chains

    async def verify(self, address: str, chain_id: int, message: str, signature: bytes) -> None:
        """Raises Unauthenticated unless `address` signed `message`, DependencyUnavailable if a chain cannot be asked.

        A key's own signature needs no chain. A contract must accept it on each chain that has one at `address`; one
        that is announced (ERC-6492) is judged on `chain_id`, if no chain has one.
        """
        digest = personal_message_hash(message)
        if len(signature) == SIGNATURE_BYTES and _recovers_to(address, digest, signature):
            return
        if not await self._contracts_agree(address, chain_id, digest, signature):
            raise Unauthenticated(
                "invalid_signature",
                "the signature is not the one of this wallet over this message; "
                "a contract wallet must accept it on every chain served here that has it",
            )

    async def _contracts_agree(self, address: str, chain_id: int, digest: bytes, signature: bytes) -> bool:
        try:
            announced = unwrap(signature) if is_announced(signature) else None
        except InvalidInput:
            return False
        inner = signature if announced is None else announced.signature
        answers = await asyncio.gather(
            *(deployed_agrees(chain, address, digest, inner) for chain in self._chains.values()),
            return_exceptions=True,
        )
        if any(answer is False for answer in answers):
            return False
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        if any(answers):
            return True
        return announced is not None and await announced_agrees(self._chains[chain_id], address, digest, announced)


def _recovers_to(address: str, digest: bytes, signature: bytes) -> bool:
    try:
        return recover_signer(digest, signature) == address
    except InvalidInput:
        return False
