"""The past of contracts that were added after the follower had passed their first block.

Such a contract is followed from `live_from` on like any other; the blocks from its `from_block` up to there are read
here, a range at a time between two rounds of the follower, which they never hold up.
"""

from __future__ import annotations

from tradingflow.chain.registry import AbiRegistry
from tradingflow.chain.rpc import Distrusted
from tradingflow.monitor.assembler import Assembler
from tradingflow.monitor.backfill import RangeSizer, read_split
from tradingflow.monitor.contracts import Contract, ContractSet
from tradingflow.monitor.proxies import Proxies
from tradingflow.monitor.reader import ChainReader, Span
from tradingflow.monitor.reorg import Lineage
from tradingflow.monitor.store import ChainStore

# Contracts whose past is read together; what one eth_getLogs takes as its address filter.
CONTRACTS_AT_ONCE = 500


class History:
    """Closes the gaps of one chain."""

    def __init__(self, chain_id: int, reader: ChainReader, store: ChainStore, registry: AbiRegistry) -> None:
        self._chain_id = chain_id
        self._reader = reader
        self._store = store
        self._registry = registry
        self._sizer = RangeSizer()

    async def step(self, next_block: int, lineage: Lineage, proxies: Proxies) -> list[Contract] | None:
        """Read and store one range; returns the contracts it discovered, or None when no gap was left.

        They have a past of their own, and are followed from `next_block` on.
        """
        gap = await self._store.first_gap(CONTRACTS_AT_ONCE)
        if gap is None:
            return None
        contracts, first, until = gap
        last = min(until, first + self._sizer.blocks) - 1
        settled_below = lineage.lowest if lineage.lowest is not None else until
        addresses = [contract.address.lower() for contract in contracts]
        if first < settled_below:
            last = min(last, settled_below - 1)
            span = await read_split(self._reader, self._sizer, first, last, addresses)
        else:
            span = await self._reader.newest(first, last, addresses)
            _check_is_stored_chain(span, lineage)
        self._sizer.came(last - first + 1, len(span.logs))
        assembler = Assembler(
            self._chain_id, self._registry, await self._store.discovery(), ContractSet(contracts), proxies
        )
        return await self._store.commit_history(assembler.past(span), contracts, next_block)


def _check_is_stored_chain(span: Span, lineage: Lineage) -> None:
    """Near the head the past must be of the very blocks that are stored. Raises Distrusted."""
    for number, header in span.headers.items():
        if lineage.hash_at(number) not in {None, header.hash}:
            raise Distrusted(f"block {number} was replaced while the past of contracts was read")
