"""Which blocks can hold logs of an address, by the bloom filter in their header.

A filter never misses: where it says no, there is none. Source: Ethereum yellow paper, section 4.3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tradingflow.core.evm import keccak, to_bytes

_BITS = 2048


@lru_cache(maxsize=131_072)
def address_mask(address: str) -> int:
    """The three bits an address sets, as a number with those bits."""
    digest = keccak(to_bytes(address))
    mask = 0
    for at in (0, 2, 4):
        mask |= 1 << (int.from_bytes(digest[at : at + 2]) % _BITS)
    return mask


def may_hold(logs_bloom: str, addresses: Sequence[str]) -> bool:
    """Whether a block with this `logsBloom` can hold logs of any of these lower-case 0x addresses."""
    bloom = int(logs_bloom, 16)
    return bloom != 0 and any(bloom & (mask := address_mask(address)) == mask for address in addresses)
