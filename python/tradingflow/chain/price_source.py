"""A price source on chain (`IPriceSource`): what a vault's loss cap measures by."""

from __future__ import annotations

from tradingflow.chain.client import ChainClient
from tradingflow.chain.transactions import WORD_BYTES, ask
from tradingflow.core.errors import Refused


class PriceSourceContract:
    """One price source on one chain. Its unit is its own: base units of a quote token, or a currency to 18 places."""

    def __init__(self, client: ChainClient, address: str) -> None:
        self._client = client
        self.address = address

    async def value_of(self, token: str, amount: int) -> int:
        """Value of `amount` base units in the source's unit, rounded down.

        Raises CallReverted where it has no fresh price, Refused `not_a_price_source` when the answer is no value.
        """
        answer = await ask(self._client, "PriceSource", self.address, "valueOf", token, amount)
        if len(answer) != WORD_BYTES:
            detail = f"{self.address} answers valueOf(address,uint256) with {len(answer)} bytes, not {WORD_BYTES}"
            raise Refused("not_a_price_source", detail)
        return int.from_bytes(answer)
