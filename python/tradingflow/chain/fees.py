"""Transaction fees by EIP-1559, all in wei per gas."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from tradingflow.chain.client import ChainClient
from tradingflow.core.errors import Refused

# Blocks and the percentile of tips in them that the next tip is taken from.
HISTORY_BLOCKS = 10
TIP_PERCENTILE = 50.0
# The base fee rises by at most 1/8 a block (EIP-1559): twice covers six full blocks in a row.
BASE_FEE_HEADROOM = 2
# Nodes take a replacement only when both fees rise by a tenth; an eighth more leaves room for their rounding.
REPLACEMENT_NUMERATOR, REPLACEMENT_DENOMINATOR = 9, 8
SMALLEST_TIP_WEI = 1
WEI_PER_GWEI = 10**9


@dataclass(frozen=True)
class Fees:
    """`max_fee` is the most a unit of gas may cost, `tip` the part of it for the block's builder."""

    max_fee: int
    tip: int

    def limited_to(self, ceiling: int) -> Fees:
        """Raises Refused `fee_ceiling` when the market asks for more than we are ready to pay."""
        if self.max_fee > ceiling:
            raise Refused("fee_ceiling", f"the fee would be {self.max_fee} wei per gas; allowed: {ceiling}")
        return self

    def at_most(self, ceiling: int) -> Fees:
        """These fees, cut to what we are ready to pay."""
        return Fees(min(self.max_fee, ceiling), min(self.tip, ceiling))

    @property
    def base_fee(self) -> int:
        """The base fee that the market's present fees leave headroom for."""
        return (self.max_fee - self.tip) // BASE_FEE_HEADROOM

    def replacing(self, previous: Fees) -> Fees:
        """These fees, raised to what a node takes in place of a transaction that pays `previous`."""
        max_fee = max(self.max_fee, _raised(previous.max_fee))
        return Fees(max_fee, min(max_fee, max(self.tip, _raised(previous.tip))))


def _raised(fee: int) -> int:
    return -(-fee * REPLACEMENT_NUMERATOR // REPLACEMENT_DENOMINATOR)


async def current_fees(client: ChainClient) -> Fees:
    """What gets a transaction mined soon: the coming base fee with headroom, and the recent median tip."""
    history = await client.guard(client.web3.eth.fee_history(HISTORY_BLOCKS, "latest", [TIP_PERCENTILE]))
    tips = [int(rewards[0]) for rewards in history.get("reward", []) if rewards]
    tip = max(int(median(tips)) if tips else 0, SMALLEST_TIP_WEI)
    return Fees(int(history["baseFeePerGas"][-1]) * BASE_FEE_HEADROOM + tip, tip)
