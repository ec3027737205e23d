"""Reading settled blocks ahead of the writer, in ranges as wide as the nodes and the events allow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

from tradingflow.chain.rpc import RangeTooWide, TimedOut
from tradingflow.core.tasks import end_all
from tradingflow.monitor.contracts import ContractSet
from tradingflow.monitor.reader import ChainReader, Span

# What one answer should hold: large enough that a request costs nothing, small enough for memory and a transaction.
LOGS_PER_RANGE = 5_000
FIRST_RANGE_BLOCKS = 50
WIDEST_RANGE_BLOCKS = 10_000
# A limit is tried again a little higher after each answer at it: a node was busy once, or another one answers now.
CEILING_STEP = 64
# Ranges being read while one is written.
READ_AHEAD = 3


class RangeSizer:
    """How many blocks the next range has; learns from how many logs came and from refusals."""

    def __init__(self) -> None:
        self.blocks = FIRST_RANGE_BLOCKS
        self._ceiling = WIDEST_RANGE_BLOCKS

    def came(self, blocks: int, logs: int) -> None:
        """A range was answered: aim at LOGS_PER_RANGE, at most doubling at a time."""
        if blocks >= self._ceiling:
            self._ceiling = min(self._ceiling + max(1, self._ceiling // CEILING_STEP), WIDEST_RANGE_BLOCKS)
        if blocks < self.blocks and logs < LOGS_PER_RANGE:
            return
        wanted = blocks * LOGS_PER_RANGE // logs if logs else self._ceiling
        self.blocks = max(1, min(wanted, self.blocks * 2, self._ceiling))

    def refused(self, blocks: int) -> None:
        """A range was too wide for a node: stay well below it for now."""
        self._ceiling = max(1, blocks // 2)
        self.blocks = min(self.blocks, self._ceiling)


class Backfill:
    """Reads [first, last] for the monitored contracts, in order, a few ranges ahead."""

    def __init__(self, reader: ChainReader, contracts: ContractSet, sizer: RangeSizer) -> None:
        self._reader = reader
        self._contracts = contracts
        self._sizer = sizer

    async def spans(self, first: int, last: int) -> AsyncIterator[tuple[Span, int]]:
        """Each span with the number of contracts it was read for. Raises RpcFailed."""
        pending: deque[asyncio.Task[tuple[Span, int]]] = deque()
        try:
            while first <= last or pending:
                while first <= last and len(pending) <= READ_AHEAD:
                    until = min(first + self._sizer.blocks - 1, last)
                    pending.append(asyncio.create_task(self._read(first, until)))
                    first = until + 1
                yield await pending.popleft()
        finally:
            await end_all(pending)

    async def again(self, span: Span, addresses: Sequence[str]) -> Span:
        """The same blocks for other addresses, whose logs may be too many for one answer. Raises RpcFailed."""
        return await read_split(self._reader, self._sizer, span.first, span.last, addresses)

    async def _read(self, first: int, last: int) -> tuple[Span, int]:
        known = len(self._contracts)
        span = await read_split(self._reader, self._sizer, first, last, self._contracts.addresses())
        self._sizer.came(last - first + 1, len(span.logs))
        return span, known


async def read_split(reader: ChainReader, sizer: RangeSizer, first: int, last: int, addresses: Sequence[str]) -> Span:
    """A settled span, read in halves where a node finds it too wide. Raises RpcFailed.

    A node that did not answer in time is not asked again here: it may be away. The next range is narrower.
    """
    try:
        return await reader.settled(first, last, addresses)
    except RangeTooWide:
        if first == last:
            raise
        sizer.refused(last - first + 1)
    except TimedOut:
        sizer.refused(last - first + 1)
        raise
    middle = (first + last) // 2
    left = await read_split(reader, sizer, first, middle, addresses)
    right = await read_split(reader, sizer, middle + 1, last, addresses)
    return Span(first, last, left.headers | right.headers, left.logs + right.logs)


class BackgroundWriter:
    """Runs writes one after the other, each while its caller goes on; leaving the block waits for the last."""

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            if error is not None:
                await end_all([self._running])
            else:
                await self._running

    async def write(self, work: Coroutine[Any, Any, None]) -> None:
        """Start `work` once the write before it is done. Raises what that one raised."""
        before, self._running = self._running, None
        try:
            if before is not None:
                await before
        except BaseException:
            work.close()
            raise
        self._running = asyncio.create_task(work)
        await asyncio.sleep(0)
