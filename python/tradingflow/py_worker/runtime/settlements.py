"""Wakes the nodes that wait for a trade to settle. Only a wake-up: the trade's row is what counts."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Settlements:
    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def announce(self, trade_id: str) -> None:
        for event in self._waiting.get(trade_id, ()):
            event.set()

    @contextmanager
    def waiting_for(self, trade_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the trade settles; enter before looking at the row, or the news may be missed."""
        event = asyncio.Event()
        self._waiting[trade_id].add(event)
        try:
            yield event
        finally:
            self._waiting[trade_id].discard(event)
            if not self._waiting[trade_id]:
                del self._waiting[trade_id]
