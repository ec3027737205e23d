"""What a token says of itself. Tokens are other people's code: every answer may be missing, odd or hostile."""

from __future__ import annotations

from dataclasses import dataclass

from tradingflow.chain.client import ChainClient
from tradingflow.core.errors import InvalidInput, Refused
from tradingflow.core.evm import keccak

MAX_SYMBOL_CHARS = 32
MAX_NAME_CHARS = 128
MAX_DECIMALS = 255
# A word for the offset, one for the length, then the text; more than this is not a name.
MAX_ANSWER_BYTES = 4096


@dataclass(frozen=True)
class TokenMetadata:
    symbol: str | None
    name: str | None
    decimals: int | None


async def read_metadata(client: ChainClient, address: str) -> TokenMetadata:
    """Raises InvalidInput when there is no contract at the address."""
    code = await client.guard(client.web3.eth.get_code(client.web3.to_checksum_address(address)))
    if not code:
        raise InvalidInput("not_a_contract", f"there is no contract at {address} on chain {client.chain_id}")
    return TokenMetadata(
        symbol=decode_text(await _ask(client, address, "symbol()"), MAX_SYMBOL_CHARS),
        name=decode_text(await _ask(client, address, "name()"), MAX_NAME_CHARS),
        decimals=decode_decimals(await _ask(client, address, "decimals()")),
    )


async def _ask(client: ChainClient, address: str, function: str) -> bytes:
    """The raw answer; empty when the token has no such function or reverts."""
    call = {"to": address, "data": "0x" + keccak(function.encode())[:4].hex()}
    try:
        answer: bytes = await client.guard(client.web3.eth.call(call))  # type: ignore[arg-type]
    except Refused:
        return b""
    return answer


def decode_decimals(answer: bytes) -> int | None:
    """A uint8 in one word; None for anything else, since a guess would misplace the decimal point."""
    if len(answer) != 32:
        return None
    decimals = int.from_bytes(answer)
    return decimals if decimals <= MAX_DECIMALS else None


def decode_text(answer: bytes, max_chars: int) -> str | None:
    """An ABI string, or the bytes32 that early tokens (MKR) return; printable characters only."""
    raw = _string_bytes(answer) if len(answer) > 32 else answer.rstrip(b"\0")
    text = raw.decode("utf-8", errors="replace")
    cleaned = "".join(c for c in text if c.isprintable()).strip()
    return cleaned[:max_chars] or None


def _string_bytes(answer: bytes) -> bytes:
    if len(answer) > MAX_ANSWER_BYTES:
        return b""
    offset = int.from_bytes(answer[:32])
    if offset > len(answer) - 32:
        return b""
    length = int.from_bytes(answer[offset : offset + 32])
    return answer[offset + 32 : offset + 32 + length] if length <= len(answer) - offset - 32 else b""
