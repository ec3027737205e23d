"""Whom many vaults name as their operator, asked in batches: an overview, not what a trade rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tradingflow.chain.rpc import TEXT, Call, RpcNode
from tradingflow.chain.rpc_pool import RpcPool
from tradingflow.chain.vault import Operator
from tradingflow.core.evm import keccak

QUESTIONS = tuple("0x" + keccak(signature).hex()[:8] for signature in (b"operator()", b"operatorExpiresAt()"))
# A node is sent the calls for so many vaults side by side, then those for the next.
VAULTS_AT_ONCE = 250
_WORD = re.compile(r"0x[0-9a-fA-F]{64}")
_ADDRESS_WORD = re.compile(r"0x0{24}[0-9a-fA-F]{40}")


async def read_operators(pool: RpcPool, vaults: Sequence[str]) -> dict[str, Operator | None]:
    """The operator each vault names on the latest block; None for an address where there is no vault.

    Raises RpcFailed when no node answers.
    """

    async def read(node: RpcNode) -> dict[str, Operator | None]:
        found: dict[str, Operator | None] = {}
        for at in range(0, len(vaults), VAULTS_AT_ONCE):
            asked = vaults[at : at + VAULTS_AT_ONCE]
            answers = await node.batch([_call(vault, question) for vault in asked for question in QUESTIONS], TEXT)
            pairs = zip(answers[::2], answers[1::2], strict=True)
            found |= {vault: _operator(*pair) for vault, pair in zip(asked, pairs, strict=True)}
        return found

    return await pool.run(read)


def _call(vault: str, question: str) -> Call:
    return "eth_call", [{"to": vault, "data": question}, "latest"]


def _operator(address: str, expires_at: str) -> Operator | None:
    if not (_ADDRESS_WORD.fullmatch(address) and _WORD.fullmatch(expires_at)):
        return None
    return Operator.from_words(int(address, 16), int(expires_at, 16))
