"""Which ticks of a pool hold a change of liquidity, 256 of them a word (v3-core TickBitmap)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

WORD_BITS = 256
_FULL_WORD = 2**WORD_BITS - 1


def words_of(ticks: Iterable[int], spacing: int) -> dict[int, int]:
    """The words of a set of initialised ticks."""
    words: dict[int, int] = {}
    for tick in ticks:
        word, bit = divmod(tick // spacing, WORD_BITS)
        words[word] = words.get(word, 0) | 1 << bit
    return words


def ticks_of(words: Mapping[int, int], spacing: int) -> list[int]:
    """The inverse of `words_of`, in order."""
    return [
        (word * WORD_BITS + bit) * spacing
        for word in sorted(words)
        for bit in range(WORD_BITS)
        if words[word] >> bit & 1
    ]


def next_tick(words: Mapping[int, int], tick: int, spacing: int, *, falling: bool) -> tuple[int, bool]:
    """The next tick of the same word in the direction, and whether it is initialised; else the word's edge.

    The edge matters: a swap stops and rounds there even when nothing changes.
    """
    compressed = tick // spacing
    if falling:
        word, bit = divmod(compressed, WORD_BITS)
        found = words.get(word, 0) & (2 << bit) - 1
        nearest = found.bit_length() - 1 if found else 0
    else:
        word, bit = divmod(compressed + 1, WORD_BITS)
        found = words.get(word, 0) & _FULL_WORD >> bit << bit
        nearest = (found & -found).bit_length() - 1 if found else WORD_BITS - 1
    return (word * WORD_BITS + nearest) * spacing, bool(found)
