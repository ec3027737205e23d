"""Paths of a swap as routers read them. Pure.

Uniswap V3 (periphery `Path.sol`): token (20 bytes), then fee in hundredths of a basis point (3) and token (20) once
per hop. V2: tokens of 20 bytes each. The vault reads the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import address_from_bytes, parse_address, to_bytes

TOKEN_BYTES = 20
FEE_BYTES = 3
HOP_BYTES = TOKEN_BYTES + FEE_BYTES
FEE_DENOMINATOR = 1_000_000
V2_FEE = 3000  # 0.3 %, the only fee a V2 pair has, in hundredths of a basis point


@dataclass(frozen=True)
class SwapPath:
    """`tokens` in the order of the swap and the fee of the pool between each two; no fees: a V2 path."""

    tokens: tuple[str, ...]
    fees: tuple[int, ...]

    @property
    def is_v2(self) -> bool:
        return not self.fees

    def reversed(self) -> SwapPath:
        """The way back."""
        return SwapPath(self.tokens[::-1], self.fees[::-1])


def encode_path(tokens: Sequence[str], fees: Sequence[int] = ()) -> bytes:
    """Raises InvalidInput unless there are two tokens and, if any, one fee below 100 % for each hop."""
    if len(tokens) < 2:
        raise InvalidInput("invalid_path", "a swap path has at least two tokens")
    if fees and len(fees) != len(tokens) - 1:
        raise InvalidInput("invalid_path", f"{len(tokens)} tokens need {len(tokens) - 1} fees, not {len(fees)}")
    if any(not 0 < fee < FEE_DENOMINATOR for fee in fees):
        raise InvalidInput("invalid_path", "a pool fee lies between 1 and 999999 (hundredths of a basis point)")
    raw = [to_bytes(parse_address(token)) for token in tokens]
    separators = [fee.to_bytes(FEE_BYTES) for fee in fees] or [b""] * (len(raw) - 1)
    return raw[0] + b"".join(separator + token for separator, token in zip(separators, raw[1:], strict=True))


def decode_path(path: bytes) -> SwapPath:
    """The inverse of `encode_path`. Raises InvalidInput for a length no path has."""
    if len(path) >= TOKEN_BYTES + HOP_BYTES and (len(path) - TOKEN_BYTES) % HOP_BYTES == 0:
        starts = range(0, len(path), HOP_BYTES)
        fees = tuple(int.from_bytes(path[s + TOKEN_BYTES : s + HOP_BYTES]) for s in starts[:-1])
        return SwapPath(tuple(address_from_bytes(path[s : s + TOKEN_BYTES]) for s in starts), fees)
    if len(path) >= 2 * TOKEN_BYTES and len(path) % TOKEN_BYTES == 0:
        starts = range(0, len(path), TOKEN_BYTES)
        return SwapPath(tuple(address_from_bytes(path[s : s + TOKEN_BYTES]) for s in starts), ())
    raise InvalidInput("invalid_path", f"no swap path has {len(path)} bytes")
