"""Turns blocks as read into a batch as stored: picks the logs of monitored contracts, decodes, discovers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tradingflow.chain.registry import AbiRegistry
from tradingflow.chain.rpc import Header, RawLog
from tradingflow.core.evm import to_bytes
from tradingflow.monitor.contracts import Contract, ContractSet
from tradingflow.monitor.decoder import Block, EventRow, block_of, block_time, event_row
from tradingflow.monitor.discovery import Discovery
from tradingflow.monitor.proxies import UPGRADED, Implementation, Proxies, upgrade
from tradingflow.monitor.reader import MOST_ADDRESSES, Span
from tradingflow.monitor.store import Batch, BlockRow

ReadAgain = Callable[[Span, Sequence[str]], Awaitable[Span]]


@dataclass
class _Found:
    """What the logs of a span came to so far."""

    events: list[EventRow] = field(default_factory=list)
    upgrades: list[Implementation] = field(default_factory=list)


class Assembler:
    """Makes batches of one chain. Contracts it discovers join `contracts` at once."""

    def __init__(
        self,
        chain_id: int,
        registry: AbiRegistry,
        discovery: Discovery,
        contracts: ContractSet,
        proxies: Proxies,
    ) -> None:
        self._chain_id = chain_id
        self._registry = registry
        self.discovery = discovery
        self.contracts = contracts
        self.proxies = proxies

    async def batch(self, span: Span, known: int, read_again: ReadAgain) -> Batch:
        """The batch of a span that was read when `known` contracts were known.

        Contracts that came since, also those the span itself announces, get their logs read too, until there are no
        new ones: a child is complete from its creation block on.
        """
        headers = dict(span.headers)
        found = _Found()
        discovered: list[Contract] = []
        read, places = span, range(known)
        while True:
            children = self._decode(read, places, found)
            discovered += [child for child in children if self.contracts.add(child)]
            places = range(places.stop, len(self.contracts))
            if not places:
                break
            if known <= MOST_ADDRESSES:
                read = await read_again(span, self.contracts.addresses(places.start))
                headers |= read.headers
        return self._made(span, headers, found, discovered)

    def past(self, span: Span) -> Batch:
        """The batch of settled blocks for the contracts known now; those it announces are left to their own past."""
        found = _Found()
        children = self._decode(span, range(len(self.contracts)), found)
        return self._made(span, span.headers, found, children)

    def _made(self, span: Span, headers: Mapping[int, Header], found: _Found, discovered: list[Contract]) -> Batch:
        found.events.sort(key=_chain_order)
        blocks = [self._block_row(header) for _, header in sorted(headers.items())]
        return Batch(self._chain_id, span.first, span.last + 1, blocks, found.events, discovered, found.upgrades)

    def _decode(self, span: Span, places: range, found: _Found) -> list[Contract]:
        """Add the rows of the contracts at these places; returns the contracts they announce."""
        blocks: dict[str, Block] = {}
        children: list[Contract] = []
        for log in span.logs:
            place, contract = self.contracts.get(log.address) or (-1, None)
            if contract is None or place not in places:
                continue
            block = blocks.get(log.block_number)
            if block is None:
                block = blocks[log.block_number] = block_of(span.headers[int(log.block_number, 16)])
            if block.number < contract.from_block:
                continue
            kind = self._implementation_kind(contract, block, log) if self.proxies else None
            row, decoded = event_row(self._chain_id, contract, block, log, self._registry, kind)
            found.events.append(row)
            if row.topics and row.topics[0] == UPGRADED:
                self._take_upgrade(contract, row, found)
            child = self.discovery.child(contract, block.number, decoded.name, decoded.args)
            if child is not None:
                children.append(child)
        return children

    def _implementation_kind(self, contract: Contract, block: Block, log: RawLog) -> str | None:
        return self.proxies.kind(contract.address, block.number, int(log.log_index, 16))

    def _take_upgrade(self, contract: Contract, row: EventRow, found: _Found) -> None:
        step = upgrade(contract.address, row.block_number, row.log_index, row.topics)
        if step is not None:
            self.proxies.add(step)
            found.upgrades.append(step)

    def _block_row(self, header: Header) -> BlockRow:
        return (
            self._chain_id,
            header.height,
            to_bytes(header.hash),
            to_bytes(header.parent_hash),
            block_time(header.time),
        )


def _chain_order(row: EventRow) -> tuple[int, int]:
    return row.block_number, row.log_index
