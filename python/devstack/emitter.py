"""Contracts that log what they are told, and a hand on the chain they live on: for tests, benchmarks and chaos runs.

The contracts are a few instructions each, assembled here, so that any log can be made: with any topics, malformed
data, or a hundred at once.
"""

import time
from collections.abc import Sequence
from typing import Any

from devstack.anvil import Anvil
from devstack.errors import DevstackError
from tradingflow.core.evm import keccak

# Several of these fit in one of anvil's blocks (30 million).
GAS_LIMIT = hex(5_000_000)
OPCODES = {
    "STOP": 0x00, "ADD": 0x01, "SUB": 0x03, "MOD": 0x06, "LT": 0x10, "ISZERO": 0x15, "CALLER": 0x33,
    "CALLDATALOAD": 0x35, "CALLDATASIZE": 0x36, "CALLDATACOPY": 0x37, "CODECOPY": 0x39, "MSTORE": 0x52, "JUMP": 0x56,
    "JUMPI": 0x57, "JUMPDEST": 0x5B, "DUP1": 0x80, "DUP2": 0x81, "SWAP1": 0x90, "LOG0": 0xA0, "LOG1": 0xA1,
    "LOG2": 0xA2, "LOG3": 0xA3, "LOG4": 0xA4, "RETURN": 0xF3,
}  # fmt: skip
RECEIPT_TIMEOUT_S = 20
HOLDERS = 10_000
FIRST_HOLDER = 0xB0000000000000000000000000000000000000


def assemble(*steps: str | int | bytes) -> bytes:
    """Machine code: names of instructions, and numbers or words that are pushed."""
    code = b""
    for step in steps:
        if isinstance(step, str):
            code += bytes([OPCODES[step]])
        else:
            word = step if isinstance(step, bytes) else step.to_bytes(max(1, (step.bit_length() + 7) // 8))
            code += bytes([0x5F + len(word)]) + word
    return code


def deployable(runtime: bytes) -> bytes:
    """The code that installs `runtime`, which may have up to 255 bytes."""
    install_size = 11  # of the instructions below, so where the runtime begins
    return assemble(len(runtime), "DUP1", install_size, 0, "CODECOPY", 0, "RETURN") + runtime


def echo_contract(topic_count: int) -> bytes:
    """Logs its call data: the first `topic_count` words as topics, the rest as data."""
    topics = [step for place in reversed(range(topic_count)) for step in (32 * place, "CALLDATALOAD")]
    start = 32 * topic_count
    size = (start, "CALLDATASIZE", "SUB", "DUP1")
    return deployable(assemble(*topics, *size, start, 0, "CALLDATACOPY", 0, f"LOG{topic_count}", "STOP"))


def transfer_burst_contract() -> bytes:
    """Logs ERC-20 `Transfer`s: call data is (count, first value); the receivers are 10,000 addresses in turn."""
    return _burst(event_topic("Transfer(address,address,uint256)"), data_words=1)


def swap_burst_contract() -> bytes:
    """Logs Uniswap V3 `Swap`s: call data is (count, first value), which fills all five words of data."""
    return _burst(event_topic("Swap(address,address,int256,int256,uint160,uint128,int24)"), data_words=5)


def _burst(topic: bytes, data_words: int) -> bytes:
    loop = 1 + 1
    fill = [step for place in range(data_words) for step in ("DUP1", 32 * place, "MSTORE")]
    value = (32, "CALLDATALOAD", "DUP2", "ADD", *fill)
    holder = (HOLDERS, "SWAP1", "MOD", FIRST_HOLDER, "ADD")
    body = assemble(*value, *holder, "CALLER", topic, 32 * data_words, 0, "LOG3", 1, "ADD", loop, "JUMP")
    head = assemble("JUMPDEST", 0, "CALLDATALOAD", "DUP2", "LT", "ISZERO")
    end = loop + len(head) + 2 + 1 + len(body)
    return deployable(assemble(0) + head + assemble(end, "JUMPI") + body + assemble("JUMPDEST", "STOP"))


def event_topic(signature: str) -> bytes:
    return keccak(signature.encode())


def word(value: int | str) -> bytes:
    """One ABI word: a (possibly negative) integer, or an address as text."""
    if isinstance(value, str):
        return bytes.fromhex(value[2:]).rjust(32, b"\0")
    return (value % 2**256).to_bytes(32)


class Emitter:
    """Deploys and calls those contracts on an anvil chain, from its first account."""

    def __init__(self, anvil: Anvil) -> None:
        self.anvil = anvil
        self.account: str = anvil.rpc("eth_accounts")[0]

    def deploy(self, code: bytes) -> str:
        """The address of a new contract, as the node writes it."""
        transaction = {"from": self.account, "data": "0x" + code.hex(), "gas": GAS_LIMIT}
        return str(self._mined(self.anvil.rpc("eth_sendTransaction", transaction))["contractAddress"])

    def emit(self, contract: str, topics: Sequence[bytes], data: bytes = b"") -> str:
        """Have an echo contract with as many topics log this; returns the transaction hash."""
        return self.send(contract, b"".join(topics) + data)

    def send(self, contract: str, call_data: bytes, *, mined: bool = True) -> str:
        """Call a contract and, unless told otherwise, wait for the block; returns the transaction hash."""
        transaction = {"from": self.account, "to": contract, "data": "0x" + call_data.hex(), "gas": GAS_LIMIT}
        sent = str(self.anvil.rpc("eth_sendTransaction", transaction))
        if mined:
            self._mined(sent)
        return sent

    def send_many(self, contract: str, calls: Sequence[bytes]) -> None:
        """Call a contract many times, each in a block of its own."""
        self.anvil.rpc("evm_setAutomine", False)
        for call_data in calls:
            self.send(contract, call_data, mined=False)
            self.anvil.rpc("evm_mine")
        self.anvil.rpc("evm_setAutomine", True)

    def in_one_block(self, calls: Sequence[tuple[str, bytes]]) -> None:
        """Mine these calls, (contract, call data), in this order and together."""
        self.anvil.rpc("evm_setAutomine", False)
        for contract, call_data in calls:
            self.send(contract, call_data, mined=False)
        self.mine()
        self.anvil.rpc("evm_setAutomine", True)

    def mine(self, blocks: int = 1) -> None:
        self.anvil.rpc("anvil_mine", hex(blocks))

    def reorg(self, depth: int, calls: Sequence[tuple[str, bytes, int]] = ()) -> None:
        """Replace the last `depth` blocks; each call is (contract, call data, which of the new blocks it is in)."""
        transactions = [
            [{"from": self.account, "to": to, "data": "0x" + data.hex(), "gas": GAS_LIMIT}, place]
            for to, data, place in calls
        ]
        self.anvil.rpc("anvil_reorg", depth, transactions)

    @property
    def head(self) -> int:
        return int(self.anvil.rpc("eth_blockNumber"), 16)

    def _mined(self, sent: str) -> dict[str, Any]:
        """The receipt; anvil answers a send a moment before it has mined it."""
        deadline = time.monotonic() + RECEIPT_TIMEOUT_S
        while time.monotonic() < deadline:
            receipt: dict[str, Any] | None = self.anvil.rpc("eth_getTransactionReceipt", sent)
            if receipt is not None:
                return receipt
        raise DevstackError(f"{sent} was not mined within {RECEIPT_TIMEOUT_S} s")
