"""ERC-20 (EIP-20) as we read it."""

from __future__ import annotations

from web3.types import BlockIdentifier

from tradingflow.chain.client import AnswerMissing, ChainClient
from tradingflow.core.errors import Refused


class Erc20Contract:
    """One token on one chain. Amounts in its base units."""

    def __init__(self, client: ChainClient, address: str) -> None:
        self._client = client
        self.address = address

    async def balance_of(self, holder: str) -> int:
        return int(await self._client.call("ERC20", self.address, "balanceOf", holder))

    async def allowance(self, owner: str, spender: str) -> int:
        return int(await self._client.call("ERC20", self.address, "allowance", owner, spender))

    async def decimals(self) -> int:
        return int(await self._client.call("ERC20", self.address, "decimals"))

    def encode_approve(self, spender: str, amount: int) -> bytes:
        return bytes.fromhex(self._client.contract("ERC20", self.address).encode_abi("approve", [spender, amount])[2:])


async def balance_if_told(client: ChainClient, token: str, holder: str, block: BlockIdentifier) -> int | None:
    """None where the token reverts or answers no number: it may be anybody's code, or none."""
    try:
        return int(await client.call("ERC20", token, "balanceOf", holder, block=block))
    except (Refused, AnswerMissing):
        return None
