"""What every pool of this package offers. Pools are frozen: a swap returns the pool as it is afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, Protocol, Self, TypeVar

from tradingflow.core.errors import Refused
from tradingflow.core.evm import parse_address

FEE_DENOMINATOR = 1_000_000
P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Swapped(Generic[P]):
    """`amount_in` is what the pool took: less than offered when its liquidity ran out. `pool` is the pool after it."""

    amount_in: int
    amount_out: int
    pool: P


class Pool(Protocol):
    """Amounts are base units; `fee` is in hundredths of a basis point."""

    @property
    def token0(self) -> str: ...
    @property
    def token1(self) -> str: ...
    @property
    def fee(self) -> int: ...

    def swap(self, token_in: str, amount_in: int) -> Swapped[Self]:
        """Sell at most `amount_in` of `token_in`. Raises Refused when the contract would revert."""
        ...

    def quote(self, token_in: str, amount_in: int) -> int:
        """What quoting this pool alone says `swap` would pay. Raises Refused when it would not answer."""
        ...

    def after(self, event: str, args: Mapping[str, Any]) -> Self:
        """The pool after one of its own events, by name, with arguments as the Monitor stores them."""
        ...

    def spot_price(self, decimals0: int, decimals1: int) -> Decimal:
        """Whole token1 for one whole token0, fee not taken. Raises Refused("pool_empty") without a price."""
        ...


def sells_token0(pool: Pool, token_in: str) -> bool:
    """Raises Refused when the pool does not hold the token."""
    if token_in not in (pool.token0, pool.token1):
        raise Refused("token_not_in_pool", f"the pool holds {pool.token0} and {pool.token1} only, not {token_in}")
    return token_in == pool.token0


def ordered(token_a: str, token_b: str) -> tuple[str, str]:
    """The pair as pools name it: token0 is the lower address."""
    a, b = parse_address(token_a), parse_address(token_b)
    return (a, b) if int(a, 16) < int(b, 16) else (b, a)
