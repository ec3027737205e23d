"""What the follower reads from the chain, checked against itself before anybody believes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tradingflow.chain.bloom import may_hold
from tradingflow.chain.rpc import (
    HEADER,
    LOGS,
    MAYBE_HEADER,
    RECEIPTS,
    TEXT,
    Call,
    Distrusted,
    Header,
    RawLog,
    Refused,
    RpcNode,
    quantity,
)
from tradingflow.chain.rpc_pool import RpcPool
from tradingflow.core.evm import address_from_bytes, keccak, to_bytes
from tradingflow.core.logging import get_logger
from tradingflow.monitor.proxies import IMPLEMENTATION_SLOT
from tradingflow.monitor.reorg import BlockLink, is_linked

log = get_logger(__name__)

# Beyond this many, logs are asked for without an address filter and picked here: no node takes 100,000 addresses.
MOST_ADDRESSES = 1000
# An empty answer for up to this many blocks is checked against their bloom filters.
MOST_BLOOMS = 256


@dataclass(frozen=True)
class Head:
    """A node's newest block."""

    number: int
    hash: str


@dataclass(frozen=True)
class Span:
    """Blocks [first, last] as read: `headers` of all blocks that matter, and logs in chain order."""

    first: int
    last: int
    headers: dict[int, Header]
    logs: list[RawLog]


def link(header: Header) -> BlockLink:
    return BlockLink(header.height, header.hash, header.parent_hash)


class ChainReader:
    """Reads one chain through its pool of nodes. Raises RpcFailed and its kinds."""

    def __init__(self, pool: RpcPool) -> None:
        self._pool = pool

    async def head(self) -> Head:
        async def read(node: RpcNode) -> Head:
            header = await node.call("eth_getBlockByNumber", ["latest", False], HEADER)
            return Head(header.height, header.hash)

        await self._pool.compare_heads()
        return await self._pool.run(read)

    async def headers(self, numbers: Sequence[int]) -> list[Header]:
        """The canonical headers of these blocks, lowest first, without those above the head.

        A node that lacks the lowest is behind, or its chain is shorter until it has grown again: its silence must not
        be taken for a chain without that block. Raises Distrusted when no node has it.
        """

        async def read(node: RpcNode) -> list[Header]:
            headers = await _headers(node, numbers)
            if not headers:
                raise Distrusted(f"{node.name} does not have block {numbers[0]}")
            return headers

        return await self._pool.run(read)

    async def newest(self, first: int, last: int, addresses: Sequence[str]) -> Span:
        """Blocks near the head, each asked for by its hash, so that headers and logs cannot be of two forks."""

        async def read(node: RpcNode) -> Span:
            headers = await _headers(node, range(first, last + 1))
            if not is_linked([link(header) for header in headers]):
                raise Distrusted(f"{node.name} sent blocks from {first} to {last} that are not a chain")
            logs = await _logs_by_hash(node, headers, addresses)
            await _check_empty(node, headers, logs, addresses)
            return Span(first, first + len(headers) - 1, {header.height: header for header in headers}, logs)

        return await self._pool.run(read)

    async def newest_again(self, span: Span, addresses: Sequence[str]) -> Span:
        """The same blocks near the head for other addresses; the node asked need not be the one that sent the span."""
        headers = list(span.headers.values())

        async def read(node: RpcNode) -> Span:
            logs = await _logs_by_hash(node, headers, addresses)
            await _check_empty(node, headers, logs, addresses)
            return replace(span, logs=logs)

        return await self._pool.run(read)

    async def settled(self, first: int, last: int, addresses: Sequence[str]) -> Span:
        """Blocks no reorg can replace: logs by range, and the headers of the blocks that have any, and of the last."""

        async def read(node: RpcNode) -> Span:
            logs = await _logs_by_range(node, first, last, addresses)
            with_logs = {int(log.block_number, 16): log.block_hash for log in logs}
            headers = {header.height: header for header in await _headers(node, sorted({*with_logs, last}))}
            if last not in headers:
                raise Distrusted(f"{node.name} does not have block {last} yet")
            for number, block_hash in with_logs.items():
                if number not in headers or headers[number].hash != block_hash:
                    raise Distrusted(f"{node.name} sent logs of a block {number} that is not on its chain")
            if not logs and last - first < MOST_BLOOMS:
                await _check_empty(node, await _headers(node, range(first, last + 1)), logs, addresses)
            return Span(first, last, headers, logs)

        return await self._pool.run(read)

    async def implementations(self, addresses: Sequence[str], block: int) -> dict[str, str]:
        """What the EIP-1967 slots of these contracts held after this block; without those that held nothing.

        None at all where no node knows any more: without an archive, it keeps the state of its last blocks only.
        """
        tag = quantity(block)
        calls: list[Call] = [("eth_getStorageAt", [address, IMPLEMENTATION_SLOT, tag]) for address in addresses]

        async def read(node: RpcNode) -> list[str]:
            try:
                return await node.batch(calls, TEXT)
            except Refused:
                log.warning("no state to look for proxies in", node=node.name, block=block, contracts=len(calls))
                return []

        slots = await self._pool.run(read)
        found = zip(addresses, map(_address_in, slots), strict=False)
        return {address: implementation for address, implementation in found if implementation is not None}

    async def vaults_of(self, factory: str, block: int) -> set[str]:
        """The vaults a VaultFactory says it made, as of this block."""
        tag = quantity(block)

        async def read(node: RpcNode) -> set[str]:
            count = {"to": factory, "data": "0x" + keccak(b"vaultCount()")[:4].hex()}
            answer = await node.call("eth_call", [count, tag], TEXT)
            data = ("0x" + keccak(b"vaultAt(uint256)")[:4].hex() + f"{place:064x}" for place in range(int(answer, 16)))
            calls: list[Call] = [("eth_call", [{"to": factory, "data": text}, tag]) for text in data]
            return {address_from_bytes(to_bytes(word)[12:]) for word in await node.batch(calls, TEXT)}

        return await self._pool.run(read)


def _address_in(slot: str) -> str | None:
    """The address a storage word holds, None for zero or what is no address."""
    word = int(slot, 16) if len(slot) > 2 else 0
    return address_from_bytes(word.to_bytes(20)) if 0 < word < 1 << 160 else None


async def _headers(node: RpcNode, numbers: Sequence[int]) -> list[Header]:
    calls: list[Call] = [("eth_getBlockByNumber", [quantity(number), False]) for number in numbers]
    found = [header for header in await node.batch(calls, MAYBE_HEADER) if header is not None]
    expected = list(numbers)[: len(found)]
    if [header.height for header in found] != expected:
        raise Distrusted(f"{node.name} sent other blocks than it was asked for")
    return found


async def _check_empty(
    node: RpcNode, headers: Sequence[Header], logs: Sequence[RawLog], addresses: Sequence[str]
) -> None:
    """Blocks that came without logs although their bloom filter allows some must have none in their receipts either.

    Where logs were asked for without a filter, that holds for those of strangers too: contracts that the blocks
    announce are looked for among them. Raises Distrusted.
    """
    answered = {log.block_number for log in logs}
    is_filtered = len(addresses) <= MOST_ADDRESSES
    doubtful = [
        header
        for header in headers
        if header.number not in answered
        and (may_hold(header.logs_bloom, addresses) if is_filtered else int(header.logs_bloom, 16) != 0)
    ]
    calls: list[Call] = [("eth_getBlockReceipts", [header.number]) for header in doubtful]
    wanted = frozenset(addresses) if doubtful and is_filtered else frozenset()
    for header, receipts in zip(doubtful, await node.batch(calls, RECEIPTS), strict=True):
        for log in (log for receipt in receipts for log in receipt.logs):
            if log.block_hash != header.hash:
                raise Distrusted(f"{node.name} has another block {header.height}")
            if not is_filtered or log.address.lower() in wanted:
                raise Distrusted(f"{node.name} left out logs of block {header.height}")


async def _logs_by_hash(node: RpcNode, headers: Sequence[Header], addresses: Sequence[str]) -> list[RawLog]:
    if not addresses:
        return []
    calls: list[Call] = [("eth_getLogs", [_filter(addresses) | {"blockHash": header.hash}]) for header in headers]
    answers = await node.batch(calls, LOGS)
    for header, logs in zip(headers, answers, strict=True):
        _check_logs(node, logs, header.height, header.height)
        if any(log.block_hash != header.hash for log in logs):
            raise Distrusted(f"{node.name} sent logs of another block than {header.height}")
    return [log for logs in answers for log in logs]


async def _logs_by_range(node: RpcNode, first: int, last: int, addresses: Sequence[str]) -> list[RawLog]:
    if not addresses:
        return []
    bounds = {"fromBlock": quantity(first), "toBlock": quantity(last)}
    logs = await node.call("eth_getLogs", [_filter(addresses) | bounds], LOGS)
    _check_logs(node, logs, first, last)
    return logs


def _filter(addresses: Sequence[str]) -> dict[str, object]:
    return {"address": list(addresses)} if len(addresses) <= MOST_ADDRESSES else {}


def _check_logs(node: RpcNode, logs: Sequence[RawLog], first: int, last: int) -> None:
    """Logs must lie in the blocks asked for, in chain order, none twice, none taken back."""
    previous = (first, -1)
    for log in logs:
        position = (int(log.block_number, 16), int(log.log_index, 16))
        if position <= previous or position[0] > last or log.removed:
            raise Distrusted(f"{node.name} sent logs that are not those of blocks {first} to {last} in order")
        previous = position
