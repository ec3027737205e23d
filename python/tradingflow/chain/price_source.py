"""A price source on chain (`IPriceSource`): what a vault's loss cap measures by."""

from __future__ import annotations

from tradingflow.chain.client import ChainClient
from tradingflow.chain.transactions import simulate
from tradingflow.core.errors import Refused
from tradingflow.core.evm import ZERO_ADDRESS

WORD_BYTES = 32


class PriceSourceContract:
    """One price source on one chain. Its unit is its own: base units of a quote token, or a currency to 18 places."""

    def __init__(self, client: ChainClient, address: str) -> None:
        self._client = client
        self.address = address

    async def value_of(self, token: str, amount: int) -> int:
        """Value of `amount` base units in the source's unit, rounded down.

        Raises CallReverted where it has no fresh price, Refused `not_a_price_source` when the answer is no value.
        """
        encoded = self._client.contract("PriceSource", self.address).encode_abi("valueOf", [token, amount])
        data = bytes.fromhex(encoded[2:])
        answer = await simulate(self._client, sender=ZERO_ADDRESS, to=self.address, data=data)
        if len(answer) != WORD_BYTES:
            detail = f"{self.address} answers valueOf(address,uint256) with {len(answer)} bytes, not {WORD_BYTES}"
            raise Refused("not_a_price_source", detail)
        return int.from_bytes(answer)
