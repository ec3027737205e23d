"""Telling what is new: ids already sent on are remembered from cycle to cycle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tradingflow.py_worker.kit.context import NodeContext

MOST_REMEMBERED = 1000
_SEEN = "seen"
Item = TypeVar("Item")


async def only_new(
    ctx: NodeContext, items: Sequence[Item], identity: Callable[[Item], str], *, first_time: int
) -> list[Item]:
    """The items not seen in earlier cycles, in their order; of the very first batch only the first `first_time`."""
    known = await ctx.state.get(_SEEN)
    seen = set(known or ())
    fresh = [item for item in items if identity(item) not in seen]
    current = [identity(item) for item in items]
    remembered = list(dict.fromkeys([*current, *(known or ())]))[: max(MOST_REMEMBERED, len(current))]
    await ctx.state.set(_SEEN, remembered)
    return fresh[:first_time] if known is None else fresh


def mentions_any(text: str, keywords: Sequence[str]) -> bool:
    """Whether the text holds one of the keywords, letter case aside; no keywords let everything pass."""
    lowered = text.casefold()
    return not keywords or any(word.casefold() in lowered for word in keywords)
