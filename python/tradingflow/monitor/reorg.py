"""The parent-hash chain of what is stored, and where another chain leaves it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class BlockLink:
    """A block and the one before it; hashes are lower-case 0x hex."""

    number: int
    hash: str
    parent_hash: str


class Lineage:
    """The stored blocks that a reorg may still replace, by number.

    It holds every block of the last `depth` below the tip and the one under those, so that a reorg of exactly
    `depth` blocks still finds its ancestor.
    """

    def __init__(self, depth: int, blocks: Iterable[tuple[int, str]] = ()) -> None:
        self._depth = depth
        self._hashes = dict(sorted(blocks))
        self._trim()

    @property
    def tip(self) -> int | None:
        """The highest stored block."""
        return next(reversed(self._hashes), None)

    @property
    def lowest(self) -> int | None:
        return next(iter(self._hashes), None)

    def hash_at(self, number: int) -> str | None:
        return self._hashes.get(number)

    def numbers_from_tip(self) -> list[int]:
        """Highest first: the order in which to look for an ancestor."""
        return list(reversed(self._hashes))

    def accepts(self, link: BlockLink) -> bool:
        """Whether this block stands on the tip. Any block may be the first."""
        tip = self.tip
        if tip is None:
            return True
        return link.number == tip + 1 and link.parent_hash == self._hashes[tip]

    def append(self, number: int, block_hash: str) -> None:
        tip = self.tip
        if tip is not None and number <= tip:
            raise ValueError(f"block {number} is not above the tip {tip}")
        self._hashes[number] = block_hash
        self._trim()

    def rollback(self, ancestor: int) -> None:
        """Forget every block above `ancestor`."""
        self._hashes = {number: block_hash for number, block_hash in self._hashes.items() if number <= ancestor}

    def common_ancestor(self, canonical: Mapping[int, str]) -> int | None:
        """The highest stored block that is also in `canonical` (number to hash); None when there is none."""
        for number in reversed(self._hashes):
            if canonical.get(number) == self._hashes[number]:
                return number
        return None

    def _trim(self) -> None:
        tip = self.tip
        if tip is None:
            return
        for number in [number for number in self._hashes if number < tip - self._depth]:
            del self._hashes[number]


def is_linked(links: Sequence[BlockLink]) -> bool:
    """Whether each block is the child of the one before it."""
    return all(
        child.number == parent.number + 1 and child.parent_hash == parent.hash for parent, child in pairwise(links)
    )
