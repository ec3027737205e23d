"""Signatures of contract wallets: ERC-1271 for deployed ones, ERC-6492 for those that are not there yet."""

from __future__ import annotations

from dataclasses import dataclass

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from tradingflow.chain.client import ChainClient
from tradingflow.core.errors import DependencyUnavailable, InvalidInput, Refused
from tradingflow.core.evm import keccak, parse_address, to_bytes

_IS_VALID_SIGNATURE = keccak(b"isValidSignature(bytes32,bytes)")[:4]
# ERC-1271: what a wallet answers, padded to a word, when it agrees.
MAGIC_VALUE = bytes.fromhex("1626ba7e").ljust(32, b"\0")
# ERC-6492: what an announced wallet's signature ends with.
MAGIC_SUFFIX = bytes.fromhex("6492" * 16)
# Enough for a deployment and a passkey check; a wallet that loops costs the node no more than this.
CALL_GAS = 10_000_000


@dataclass(frozen=True)
class AnnouncedWallet:
    """A wallet that `factory`, called with `factory_call`, would deploy; `signature` is for it to judge."""

    factory: str
    factory_call: bytes
    signature: bytes


def is_announced(signature: bytes) -> bool:
    return signature.endswith(MAGIC_SUFFIX)


def unwrap(signature: bytes) -> AnnouncedWallet:
    """Read an ERC-6492 signature. Raises InvalidInput."""
    try:
        factory, call, inner = decode(("address", "bytes", "bytes"), signature[: -len(MAGIC_SUFFIX)])
    except DecodingError as error:
        raise InvalidInput("invalid_signature", "the signature is not well-formed (ERC-6492)") from error
    return AnnouncedWallet(parse_address(factory), call, inner)


async def deployed_agrees(client: ChainClient, wallet: str, digest: bytes, signature: bytes) -> bool | None:
    """Whether the contract at `wallet` accepts `signature` over `digest` now; None where there is no contract."""
    if not await client.code_at(wallet):
        return None
    question = _question(digest, signature)
    return await _answers_magic(client, {"to": wallet, "data": "0x" + question.hex(), "gas": hex(CALL_GAS)})


async def announced_agrees(client: ChainClient, wallet: str, digest: bytes, announced: AnnouncedWallet) -> bool:
    """Whether the contract that would be deployed at `wallet` would accept its signature over `digest`."""
    program = deploy_and_ask(announced, wallet, _question(digest, announced.signature))
    return await _answers_magic(client, {"data": "0x" + program.hex(), "gas": hex(CALL_GAS)})


def _question(digest: bytes, signature: bytes) -> bytes:
    return _IS_VALID_SIGNATURE + encode(("bytes32", "bytes"), (digest, signature))


async def _answers_magic(client: ChainClient, call: dict[str, str]) -> bool:
    try:
        answer = await client.guard(client.web3.eth.call(call))  # type: ignore[arg-type]
    except Refused:
        return False
    except DependencyUnavailable as error:
        # The node answered, and not with a value: the wallet's code ran out of gas.
        if error.code == "rpc_error":
            return False
        raise
    return bytes(answer) == MAGIC_VALUE


def deploy_and_ask(announced: AnnouncedWallet, wallet: str, question: bytes) -> bytes:
    """Creation code for an `eth_call`: have the factory deploy the wallet, ask it, return its answer as it is.

    Nothing of it stays: the call is never mined. A wallet without code answers nothing, which is not the magic value.
    """
    size = len(_program(announced.factory, (0, 0), wallet, (0, 0)))
    first = (size, len(announced.factory_call))
    second = (size + first[1], len(question))
    return _program(announced.factory, first, wallet, second) + announced.factory_call + question


def _program(factory: str, first: tuple[int, int], wallet: str, second: tuple[int, int]) -> bytes:
    """`first` and `second` are (offset, length) of the two calls' data behind the program."""
    call = _load(*first) + _push(0) * 2 + _push(first[1], 3) + _push(0) * 2 + _address(factory) + b"\x5a\xf1\x50"
    ask = _load(*second) + _push(0) * 2 + _push(second[1], 3) + _push(0) + _address(wallet) + b"\x5a\xfa"
    after_revert = len(call) + len(ask) + 8
    on_failure = _push(after_revert) + b"\x57" + _push(0) * 2 + b"\xfd\x5b"  # JUMPI, REVERT, JUMPDEST
    copy_answer = b"\x3d" + _push(0) * 2 + b"\x3e\x3d" + _push(0) + b"\xf3"  # RETURNDATACOPY, RETURN
    return call + ask + on_failure + copy_answer


def _load(offset: int, length: int) -> bytes:
    return _push(length, 3) + _push(offset, 3) + _push(0) + b"\x39"  # CODECOPY


def _push(value: int, size: int = 1) -> bytes:
    return bytes([0x5F + size]) + value.to_bytes(size)


def _address(address: str) -> bytes:
    return b"\x73" + to_bytes(address)  # PUSH20
