"""Sending signed transactions and finding out what became of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import aiohttp
from eth_typing import BlockNumber, ChecksumAddress, HexStr
from hexbytes import HexBytes
from web3.exceptions import BlockNotFound, TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import BlockIdentifier, FilterParams, LogReceipt, TxParams

from tradingflow.chain.client import ChainClient, node_message
from tradingflow.chain.send_outcome import NODES_OWN_TROUBLE, SendOutcome, meaning_of
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.evm import ZERO_ADDRESS

# Nodes refuse log queries over too many blocks; a range they refuse is halved.
LOG_RANGE_BLOCKS = 10_000
WORD_BYTES = 32


@dataclass(frozen=True)
class Receipt:
    """A transaction as it was mined. `gas_used` in gas, `effective_gas_price` in wei."""

    transaction_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    effective_gas_price: int
    logs: tuple[LogReceipt, ...]


@dataclass(frozen=True)
class BlockHead:
    """A block's height, and the time it claims."""

    number: BlockNumber
    time: datetime


async def send_raw(client: ChainClient, raw: bytes) -> SendOutcome:
    """Hand a signed transaction to the node. Harmless to repeat.

    Raises DependencyUnavailable when the node does not answer: it may or may not have taken the transaction.
    """
    try:
        await client.web3.eth.send_raw_transaction(HexBytes(raw))
    except Web3RPCError as error:
        meaning = meaning_of(node_message(error))
        if meaning is SendOutcome.REFUSED and _is_nodes_own_trouble(error):
            raise DependencyUnavailable("rpc_error", f"the RPC failed: {node_message(error)}") from error
        return meaning
    except (TimeoutError, aiohttp.ClientError, OSError, Web3Exception) as error:
        raise DependencyUnavailable(
            "rpc_unavailable", f"the RPC of chain {client.chain_id} failed: {type(error).__name__}"
        ) from error
    return SendOutcome.ACCEPTED


def _is_nodes_own_trouble(error: Web3RPCError) -> bool:
    detail = (error.rpc_response or {}).get("error")
    return isinstance(detail, dict) and detail.get("code") in NODES_OWN_TROUBLE


async def find_receipt(client: ChainClient, transaction_hash: str) -> Receipt | None:
    """The receipt, or None while the transaction is not mined (or no longer is)."""
    found = await client.guard(_receipt_or_none(client, transaction_hash))
    if found is None:
        return None
    return Receipt(
        transaction_hash=transaction_hash,
        block_number=int(found["blockNumber"]),
        block_hash=HexBytes(found["blockHash"]).to_0x_hex(),
        succeeded=int(found["status"]) == 1,
        gas_used=int(found["gasUsed"]),
        effective_gas_price=int(found["effectiveGasPrice"]),
        logs=tuple(found["logs"]),
    )


async def _receipt_or_none(client: ChainClient, transaction_hash: str) -> Any:
    try:
        return await client.web3.eth.get_transaction_receipt(HexStr(transaction_hash))
    except TransactionNotFound:
        return None


async def mined_nonce(client: ChainClient, address: str) -> int:
    """How many transactions of `address` are mined: the nonce the chain takes next."""
    count: int = await client.guard(client.web3.eth.get_transaction_count(cast("ChecksumAddress", address), "latest"))
    return count


async def pending_nonce(client: ChainClient, address: str) -> int:
    """As `mined_nonce`, with what waits in this node's own pool."""
    count: int = await client.guard(client.web3.eth.get_transaction_count(cast("ChecksumAddress", address), "pending"))
    return count


async def native_balance(client: ChainClient, address: str) -> int:
    """What an address holds of the chain's own coin, in wei."""
    held: int = await client.guard(client.web3.eth.get_balance(cast("ChecksumAddress", address), "latest"))
    return held


async def head_number(client: ChainClient) -> int:
    number: int = await client.guard(client.web3.eth.get_block_number())
    return number


async def newest_block(client: ChainClient) -> BlockHead:
    """The newest block of the node that answers."""
    block = await client.guard(client.web3.eth.get_block("latest"))
    return BlockHead(BlockNumber(int(block["number"])), datetime.fromtimestamp(int(block["timestamp"]), UTC))


async def block_hash(client: ChainClient, number: int) -> str | None:
    """The canonical hash at a height; None above the head."""
    block = await client.guard(_block_or_none(client, number))
    return None if block is None else HexBytes(block["hash"]).to_0x_hex()


async def _block_or_none(client: ChainClient, number: int) -> Any:
    try:
        return await client.web3.eth.get_block(number)
    except BlockNotFound:
        return None


async def estimate_gas(
    client: ChainClient, *, sender: str, to: str, data: bytes, block: BlockIdentifier = "latest"
) -> int:
    """Gas the call would use on top of a block. Raises CallReverted with the contract's reason."""
    gas: int = await client.guard(client.web3.eth.estimate_gas(_call(sender, to, data), block))
    return gas


async def simulate(
    client: ChainClient, *, sender: str, to: str, data: bytes, block: BlockIdentifier = "latest"
) -> bytes:
    """What the call would return on top of a block. Raises CallReverted with the contract's reason."""
    return bytes(await client.guard(client.web3.eth.call(_call(sender, to, data), block)))


async def ask(client: ChainClient, abi_name: str, address: str, function: str, *args: Any) -> bytes:
    """What whatever stands at an address answers to a view, undecoded: a number is WORD_BYTES. Raises CallReverted."""
    encoded = client.contract(abi_name, address).encode_abi(function, list(args))
    return await simulate(client, sender=ZERO_ADDRESS, to=address, data=bytes.fromhex(encoded[2:]))


async def replay(client: ChainClient, receipt: Receipt) -> None:
    """Call again what a mined transaction called, on top of its own block. Raises CallReverted with the reason."""
    sent = await client.guard(client.web3.eth.get_transaction(HexStr(receipt.transaction_hash)))
    await simulate(client, sender=sent["from"], to=sent["to"], data=bytes(sent["input"]), block=receipt.block_number)


async def find_logs(
    client: ChainClient, address: str, topics: Sequence[str], first_block: int, last_block: int
) -> list[LogReceipt]:
    """The newest logs that match, searched backwards until a range holds some."""
    async for logs in _ranges_backwards(client, address, topics, first_block, last_block):
        if logs:
            return logs
    return []


async def all_logs(
    client: ChainClient, address: str, topics: Sequence[str], first_block: int, last_block: int
) -> list[LogReceipt]:
    """Every log that matches."""
    ranges = [logs async for logs in _ranges_backwards(client, address, topics, first_block, last_block)]
    return [log for logs in reversed(ranges) for log in logs]


async def _ranges_backwards(
    client: ChainClient, address: str, topics: Sequence[str], first_block: int, last_block: int
) -> AsyncIterator[list[LogReceipt]]:
    upper, span = last_block, LOG_RANGE_BLOCKS
    while upper >= first_block:
        lower = max(first_block, upper - span + 1)
        wanted: FilterParams = {
            "address": cast("ChecksumAddress", address),
            "topics": [HexStr(topic) for topic in topics],
            "fromBlock": lower,
            "toBlock": upper,
        }
        try:
            logs: list[LogReceipt] = await client.guard(client.web3.eth.get_logs(wanted))
        except DependencyUnavailable as error:
            if error.code != "rpc_error" or span == 1:
                raise
            span //= 2
            continue
        yield logs
        upper = lower - 1


def _call(sender: str, to: str, data: bytes) -> TxParams:
    return {"from": cast("ChecksumAddress", sender), "to": cast("ChecksumAddress", to), "data": HexBytes(data)}
