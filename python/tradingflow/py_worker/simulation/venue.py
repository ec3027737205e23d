"""Where simulated trades are filled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from tradingflow.chain.amm.pool import Pool, Swapped, ordered
from tradingflow.chain.swap_path import decode_path
from tradingflow.core.errors import Refused


@dataclass(frozen=True, slots=True)
class Fill:
    """What a swap moved, in base units. `amount_in` is below what was offered when liquidity ran out."""

    amount_in: int
    amount_out: int


Accept = Callable[[Fill], None]


def accept_any(fill: Fill) -> None:
    """Every fill is welcome."""


class Venue(Protocol):
    """One market as it stands now. `path` is written as `chain.swap_path.encode_path` does."""

    def quote(self, path: bytes, amount_in: int) -> int:
        """Base units of the last token for `amount_in` of the first; moves nothing. Raises Refused."""
        ...

    def swap(self, path: bytes, amount_in: int, accept: Accept = accept_any) -> Fill:
        """Trade: `accept` sees the fill and may raise Refused, which leaves the venue as it was."""
        ...


PoolKey = tuple[str, str, int | None]
"""(token0, token1, fee); fee None for a V2 pair, whose path names no fee."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One hop of a swap: the pool before it, and what it did there."""

    key: PoolKey
    token_in: str
    before: Pool
    swapped: Swapped[Any]


class PoolVenue:
    """A set of pools, traded as routers trade them."""

    def __init__(self, pools: Mapping[PoolKey, Pool]) -> None:
        self._pools = dict(pools)
        self.swapped: Sequence[Leg] = ()
        """The legs of the last swap."""

    @property
    def pools(self) -> Mapping[PoolKey, Pool]:
        """The pools as they stand."""
        return self._pools

    def pool(self, key: PoolKey) -> Pool:
        """Raises Refused("no_pool")."""
        if key not in self._pools:
            raise Refused("no_pool", f"there is no pool of {key[0]} and {key[1]} with the fee {key[2]}")
        return self._pools[key]

    def set_pool(self, key: PoolKey, pool: Pool) -> None:
        """Put a pool, as it now is, in the place of `key`."""
        self._pools[key] = pool

    def apply(self, key: PoolKey, event: str, args: Mapping[str, Any]) -> None:
        """Follow an event of one of the pools. Raises Refused("no_pool")."""
        self._pools[key] = self.pool(key).after(event, args)

    def quote(self, path: bytes, amount_in: int) -> int:
        """As QuoterV2 answers: each hop against the pools as they stand, also when a path meets one twice."""
        amount = amount_in
        try:
            for key, token_in in hops(path):
                amount = self.pool(key).quote(token_in, amount)
        except Refused as error:
            if decode_path(path).is_v2:
                raise
            raise Refused("quote_refused", "no pool on this path can fill the swap") from error
        return amount

    def legs(self, path: bytes, amount_in: int) -> list[Leg]:
        """As a router swaps: each hop in the pools the hops before have left. Moves nothing."""
        found: list[Leg] = []
        changed: dict[PoolKey, Pool] = {}
        for key, token_in in hops(path):
            before = changed.get(key) or self.pool(key)
            swapped: Swapped[Any] = before.swap(token_in, amount_in)
            found.append(Leg(key, token_in, before, swapped))
            changed[key], amount_in = swapped.pool, swapped.amount_out
        return found

    def swap(self, path: bytes, amount_in: int, accept: Accept = accept_any) -> Fill:
        """Trade along the path's `legs`."""
        legs = self.legs(path, amount_in)
        fill = Fill(legs[0].swapped.amount_in, legs[-1].swapped.amount_out)
        accept(fill)
        self._pools.update({leg.key: leg.swapped.pool for leg in legs})
        self.swapped = legs
        return fill


@lru_cache(maxsize=4_096)
def hops(path: bytes) -> tuple[tuple[PoolKey, str], ...]:
    """The pool of each hop, and the token sold there. Raises InvalidInput for bytes that are no path."""
    decoded = decode_path(path)
    fees: tuple[int | None, ...] = decoded.fees or (None,) * (len(decoded.tokens) - 1)
    pairs = zip(decoded.tokens, decoded.tokens[1:], fees, strict=False)
    return tuple(((*ordered(sold, bought), fee), sold) for sold, bought, fee in pairs)
