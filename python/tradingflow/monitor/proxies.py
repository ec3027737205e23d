"""Which code stood behind a proxy when it logged (EIP-1967). Pure.

A proxy keeps the address of its implementation in a fixed storage slot and logs `Upgraded` when that changes. What the
slot held before the first block read, and every `Upgraded` since, say which implementation any of its logs came from.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tradingflow.core.evm import address_from_bytes, keccak

# EIP-1967: keccak256("eip1967.proxy.implementation") - 1.
IMPLEMENTATION_SLOT = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"
UPGRADED = keccak(b"Upgraded(address)")
# Where the slot's content stands among the logs of its block: before them all.
BEFORE_ALL_LOGS = -1


class Implementation(NamedTuple):
    """From this log of this block on, `proxy` runs the code at `implementation`."""

    proxy: str
    block_number: int
    log_index: int
    implementation: str


class Proxies:
    """The implementations of one chain's proxies over time. `kind_of` says what kind a monitored contract is."""

    def __init__(self, implementations: Iterable[Implementation], kind_of: Callable[[str], str | None]) -> None:
        self._kind_of = kind_of
        self._history: dict[str, list[tuple[int, int, str]]] = {}
        for implementation in implementations:
            self.add(implementation)

    def __bool__(self) -> bool:
        return bool(self._history)

    def add(self, found: Implementation) -> None:
        history = self._history.setdefault(found.proxy, [])
        step = (found.block_number, found.log_index, found.implementation)
        if step not in history:
            insort(history, step)

    def implementation(self, proxy: str, block_number: int, log_index: int) -> str | None:
        """The implementation a log of the proxy came from; None for a contract that is none, or before it was one."""
        history = self._history.get(proxy)
        if history is None:
            return None
        place = bisect_right(history, (block_number, log_index, ""))
        return history[place - 1][2] if place else None

    def kind(self, proxy: str, block_number: int, log_index: int) -> str | None:
        """The kind of the implementation a log came from, where that is monitored itself."""
        implementation = self.implementation(proxy, block_number, log_index)
        return None if implementation is None else self._kind_of(implementation)


def upgrade(proxy: str, block_number: int, log_index: int, topics: list[bytes]) -> Implementation | None:
    """What a log says of its proxy, when it is an `Upgraded` as EIP-1967 has it."""
    if len(topics) != 2 or topics[0] != UPGRADED or topics[1][:12] != bytes(12):
        return None
    return Implementation(proxy, block_number, log_index, address_from_bytes(topics[1][12:]))
