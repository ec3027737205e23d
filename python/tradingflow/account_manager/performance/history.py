"""A vault's events as movements, valued at the prices of their blocks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from tradingflow.account_manager.performance.figure import Figure, total
from tradingflow.account_manager.performance.profit import Movement, Part
from tradingflow.core.evm import ZERO_ADDRESS
from tradingflow.core.money import EXACT, to_human

NATIVE_DECIMALS = 18
PENDING = "price_pending"
ONE = Figure(Decimal(1))


@dataclass(frozen=True)
class VaultEvent:
    """A deposit (`come`), a withdrawal (`gone`) or a trade (both). `flow` is the on-chain id of the trade's flow."""

    block_number: int
    log_index: int
    block_hash: str
    block_time: datetime
    transaction_hash: str
    gone: Part | None
    come: Part | None
    flow: str | None = None

    @property
    def is_trade(self) -> bool:
        return self.gone is not None and self.come is not None

    def parts(self) -> list[Part]:
        return [part for part in (self.gone, self.come) if part is not None]


@dataclass(frozen=True)
class Valuer:
    """Worth in whole quote tokens.

    `block_prices` are by block hash and token, `decimals` None where a token does not say.
    """

    quote_token: str | None
    decimals: Mapping[str, int | None]
    block_prices: Mapping[tuple[str, str], Figure]

    def at_block(self, block_hash: str, token: str) -> Figure:
        """The price of a token at the end of a block."""
        if self.quote_token is None:
            return Figure.unknown("no_quote_token")
        if token == self.quote_token:
            return ONE
        return self.block_prices.get((block_hash, token), Figure.unknown(f"{PENDING}: {token}"))

    def worth(self, part: Part, price: Figure) -> Figure:
        if part.amount == 0:
            return Figure(Decimal(0))
        if price.value is None:
            return price
        decimals = NATIVE_DECIMALS if part.token == ZERO_ADDRESS else self.decimals.get(part.token)
        if decimals is None:
            return Figure.unknown(f"decimals_unknown: {part.token}")
        return Figure(EXACT.multiply(to_human(part.amount, decimals), price.value))

    def worth_at_block(self, part: Part, block_hash: str) -> Figure:
        return self.worth(part, self.at_block(block_hash, part.token))

    def movement(self, event: VaultEvent) -> Movement:
        """A trade is worth what it brought or gave in quote tokens, else what was sold, else what was bought."""
        parts = sorted(event.parts(), key=lambda part: part.token != self.quote_token)
        worths = [self.worth_at_block(part, event.block_hash) for part in parts]
        known = next((worth for worth in worths if worth.value is not None), worths[0])
        return Movement(event.gone, event.come, known)

    def worth_of_all(self, parts: Iterable[Part], block_hash: str) -> Figure:
        return total(self.worth_at_block(part, block_hash) for part in parts)


def wanted_prices(events: Sequence[VaultEvent], quote_token: str | None) -> Iterator[tuple[int, str, str]]:
    """(block number, block hash, token) of every price the figures need: at each event, all the vault had met by then.

    The native currency is among them, for what gas cost.
    """
    met: dict[str, None] = {ZERO_ADDRESS: None}
    seen: set[tuple[str, str]] = set()
    for event in events:
        met.update(dict.fromkeys(part.token for part in event.parts()))
        for token in met:
            if token != quote_token and (event.block_hash, token) not in seen:
                seen.add((event.block_hash, token))
                yield event.block_number, event.block_hash, token
