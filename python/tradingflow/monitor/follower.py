"""Follows one chain: backfills what is settled, then keeps to the head, and goes back where the chain did."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from tradingflow.chain.registry import AbiRegistry
from tradingflow.chain.rpc import Distrusted
from tradingflow.chain.rpc_heads import NewHeads
from tradingflow.core.config import ChainSettings
from tradingflow.core.errors import TradingFlowError
from tradingflow.core.logging import get_logger
from tradingflow.monitor import metrics
from tradingflow.monitor.assembler import Assembler
from tradingflow.monitor.backfill import Backfill, BackgroundWriter, RangeSizer
from tradingflow.monitor.contracts import ContractSet
from tradingflow.monitor.decoder import EventRow
from tradingflow.monitor.history import History
from tradingflow.monitor.proxies import BEFORE_ALL_LOGS, Implementation, Proxies
from tradingflow.monitor.proxy_store import ProxyStore
from tradingflow.monitor.reader import ChainReader, Head, Span, link
from tradingflow.monitor.reorg import Lineage
from tradingflow.monitor.store import Batch, ChainStore

log = get_logger(__name__)

# Blocks near the head that are read and stored together.
HEAD_SPAN_BLOCKS = 32
# Headers asked for at first when looking for the ancestor; doubled each time. Most reorgs are one or two deep.
ANCESTOR_SEARCH_BLOCKS = 4
# Contracts whose proxy slots are read before it is noted that they were: a few requests.
EXAMINED_AT_ONCE = 500
RETRY_S = 1.0
HALTED_POLL_S = 2.0


class State:
    """What the follower knows of its own chain; read afresh from the store after any failure."""

    def __init__(self, next_block: int, lineage: Lineage, assembler: Assembler, version: tuple[object, ...]) -> None:
        self.next_block = next_block
        self.lineage = lineage
        self.assembler = assembler
        self.version = version


class Follower:
    """Keeps the stored events of one chain equal to the canonical chain, until cancelled."""

    def __init__(
        self,
        settings: ChainSettings,
        reader: ChainReader,
        store: ChainStore,
        proxies: ProxyStore,
        registry: AbiRegistry,
        heads: NewHeads | None = None,
    ) -> None:
        self._settings = settings
        self.chain_id = settings.chain_id
        self._label = str(settings.chain_id)
        self._reader = reader
        self._store = store
        self._proxies = proxies
        self._registry = registry
        self._heads = heads
        self._sizer = RangeSizer()
        self._history = History(settings.chain_id, reader, store, registry)
        self._state: State | None = None
        self.on_stored: Callable[[int], None] = lambda _: None
        self.last_at_head_s = float("-inf")

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            pause_s = await self.run_once()
            if pause_s == self._settings.poll_interval_s and self._heads is not None:
                await self._heads.wait(pause_s)
            else:
                await asyncio.sleep(pause_s)

    async def run_once(self) -> float:
        """One round; what fails is logged, and tried again from what is stored. Returns how long to wait, in
        seconds."""
        try:
            return await self.round()
        except TradingFlowError as error:
            log.warning("round failed", chain_id=self.chain_id, code=error.code, detail=error.detail)
        except Exception:  # the edge of a background loop: say it, forget what we believed, go on
            log.exception("round broke", chain_id=self.chain_id)
        self._state = None
        return RETRY_S

    async def round(self) -> float:
        """Bring the stored chain up to the node's head; returns how long to wait before the next, in seconds."""
        state = await self._load()
        if state is None:
            return HALTED_POLL_S
        head = await self._reader.head()
        settled = head.number - self._settings.finality_blocks
        if state.next_block <= settled:
            on_chain = await self._tip_is_canonical(state) and await self._backfill(state, head, settled)
        elif state.next_block <= head.number:
            on_chain = await self._keep_up(state, head)
        else:
            on_chain = self._knows(state, head)
        if not on_chain:
            await self._go_back(state)
            return 0.0
        if state.next_block <= head.number:
            return 0.0
        self.last_at_head_s = time.monotonic()
        if await self._read_history(state):
            return 0.0
        return self._settings.poll_interval_s

    async def _load(self) -> State | None:
        """The state, from the store when unknown; None while the chain is halted."""
        if self._state is not None:
            await self._take_up_contracts(self._state)
            return self._state
        cursor = await self._store.cursor()
        metrics.HALTED.labels(self._label).set(cursor.halted_reason is not None)
        if cursor.halted_reason is not None:
            return None
        version = (await self._store.news()).version
        await self._store.load_abis(self._registry)
        contracts = ContractSet(await self._store.adopt(cursor.next_block))
        metrics.CONTRACTS.labels(self._label).set(len(contracts))
        blocks = await self._store.recent_blocks(cursor.next_block)
        await self._examine()
        proxies = Proxies(await self._proxies.load(), contracts.kind_of)
        assembler = Assembler(self.chain_id, self._registry, await self._store.discovery(), contracts, proxies)
        lineage = Lineage(self._settings.finality_blocks, blocks)
        self._state = State(cursor.next_block, lineage, assembler, version)
        return self._state

    async def _take_up_contracts(self, state: State) -> None:
        news = await self._store.news()
        if news.contracts_wait or news.version != state.version:
            state.version = news.version
            await self._store.load_abis(self._registry)
            state.assembler.discovery = await self._store.discovery()
            for contract in await self._store.adopt(state.next_block, since_load=True):
                state.assembler.contracts.add(contract)
            for implementation in await self._examine():
                state.assembler.proxies.add(implementation)
            metrics.CONTRACTS.labels(self._label).set(len(state.assembler.contracts))

    async def _examine(self) -> list[Implementation]:
        """Look which contracts taken up are proxies, some at a time; returns the implementations found.

        What counts is the state before the first block of their past, and before the first one followed: logs of both
        are read at the same time.
        """
        found: list[Implementation] = []
        while waiting := await self._proxies.unexamined(EXAMINED_AT_ONCE):
            at: dict[int, list[str]] = defaultdict(list)
            for address, first, live in waiting:
                for block in {first, live} - {0}:
                    at[block].append(address)
            now = [
                Implementation(proxy, block, BEFORE_ALL_LOGS, code)
                for block, addresses in sorted(at.items())
                for proxy, code in (await self._reader.implementations(addresses, block - 1)).items()
            ]
            await self._proxies.examined([address for address, *_ in waiting], now)
            found += now
        return found

    async def _tip_is_canonical(self, state: State) -> bool:
        """Whether the block we stored last is on the chain. Raises Distrusted when no node has one of its number."""
        tip = state.lineage.tip
        if tip is None:
            return True
        (canonical,) = await self._reader.headers([tip])
        return canonical.hash == state.lineage.hash_at(tip)

    def _knows(self, state: State, head: Head) -> bool:
        """Whether the node's head, which is not above our tip, is a block we stored. Raises Distrusted."""
        stored = state.lineage.hash_at(head.number)
        if stored is None and state.lineage.tip is not None:
            raise Distrusted(f"the node's head {head.number} is far below the stored block {state.lineage.tip}")
        return stored in {None, head.hash}

    async def _backfill(self, state: State, head: Head, last: int) -> bool:
        backfill = Backfill(self._reader, state.assembler.contracts, self._sizer)
        async with BackgroundWriter() as writer:  # PostgreSQL stores a batch while the next one is decoded
            async for span, known in backfill.spans(state.next_block, last):
                batch = await state.assembler.batch(span, known, backfill.again)
                await writer.write(self._store_batch(state, batch, span, head))
        return True

    async def _keep_up(self, state: State, head: Head) -> bool:
        """Store blocks up to the head; False when the chain no longer holds our tip."""
        while state.next_block <= head.number:
            known = len(state.assembler.contracts)
            last = min(head.number, state.next_block + HEAD_SPAN_BLOCKS - 1)
            span = await self._reader.newest(state.next_block, last, state.assembler.contracts.addresses())
            if not span.headers:
                return await self._tip_is_canonical(state)
            if not state.lineage.accepts(link(span.headers[span.first])):
                return False
            batch = await state.assembler.batch(span, known, self._reader.newest_again)
            await self._store_batch(state, batch, span, head)
        return True

    async def _read_history(self, state: State) -> bool:
        """Read one range of what late contracts are missing; whether there was any."""
        discovered = await self._history.step(state.next_block, state.lineage, state.assembler.proxies)
        for contract in discovered or ():
            state.assembler.contracts.add(contract)
        return discovered is not None

    async def _store_batch(self, state: State, batch: Batch, span: Span, head: Head) -> None:
        await self._store.commit(batch, head.number)
        state.next_block = batch.next_block
        for number, header in sorted(span.headers.items()):
            state.lineage.append(number, header.hash)
        self._measure(batch.events, span, head)
        self.on_stored(span.last)
        for child in batch.discovered:
            log.info("contract discovered", chain_id=self.chain_id, address=child.address, kind=child.kind)

    def _measure(self, events: Sequence[EventRow], span: Span, head: Head) -> None:
        metrics.EVENTS.labels(self._label).inc(len(events))
        metrics.UNDECODED.labels(self._label).inc(sum(event.name is None for event in events))
        metrics.LAG_BLOCKS.labels(self._label).set(head.number - span.last)
        metrics.LAG_SECONDS.labels(self._label).set(max(0.0, time.time() - span.headers[span.last].time))

    async def _go_back(self, state: State) -> None:
        """Roll back to the last block we share with the chain, or halt where a reorg may not reach."""
        tip = state.lineage.tip
        ancestor = await self._common_ancestor(state)
        next_final_block = (await self._store.cursor()).next_final_block
        if tip is None or ancestor is None or ancestor + 1 < next_final_block:
            await self._halt(state)
            return
        removed = await self._store.rollback(state.next_block, ancestor)
        metrics.REORGS.labels(self._label).inc()
        metrics.REORG_DEPTH.labels(self._label).observe(tip - ancestor)
        log.warning("reorg", chain_id=self.chain_id, ancestor=ancestor, depth=tip - ancestor, events_reverted=removed)
        self._state = None

    async def _common_ancestor(self, state: State) -> int | None:
        numbers = state.lineage.numbers_from_tip()
        asked, width = 0, ANCESTOR_SEARCH_BLOCKS
        while asked < len(numbers):
            canonical = await self._reader.headers(sorted(numbers[asked : asked + width]))
            found = state.lineage.common_ancestor({header.height: header.hash for header in canonical})
            if found is not None:
                return found
            asked, width = asked + width, width * 2
        nothing_older = numbers and numbers[-1] == self._settings.start_block
        return self._settings.start_block - 1 if nothing_older else None

    async def _halt(self, state: State) -> None:
        reason = (
            f"a reorg goes deeper than {self._settings.finality_blocks} blocks below block {state.next_block - 1}; "
            f"see `tradingflow monitor resume`"
        )
        await self._store.halt(reason)
        metrics.HALTED.labels(self._label).set(1)
        log.critical("chain halted", alert=True, chain_id=self.chain_id, reason=reason)
        self._state = None
