"""What a contract said when it reverted, as a code for programs and a sentence for people."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from tradingflow.chain.abi import load_abi
from tradingflow.core.evm import keccak
from tradingflow.core.storable import storable_text

# Solidity's own two: a reason string, and a failed assertion or arithmetic.
_REASON = bytes.fromhex("08c379a0")
_PANIC = bytes.fromhex("4e487b71")
_CONTRACTS = ("Vault", "VaultFactory", "ERC20")
# Of the words of a contract that may be anybody's; far above what an honest one says.
MAX_REASON_CHARS = 400
# What Uniswap's routers and pools, and old tokens, say in a reason string.
_REASON_CODES = {
    "Too little received": "slippage_exceeded",
    "UniswapV2Router: INSUFFICIENT_OUTPUT_AMOUNT": "slippage_exceeded",
    "Transaction too old": "deadline_passed",
    "UniswapV2Router: EXPIRED": "deadline_passed",
    "STF": "token_transfer_failed",
}


def explain_revert(data: bytes) -> tuple[str, str]:
    """(code, detail) of revert data: a custom error of our contracts by name, a reason string, or a panic."""
    selector, arguments = data[:4], data[4:]
    try:
        if selector == _REASON:
            (reason,) = decode(["string"], arguments)
            return _REASON_CODES.get(
                reason, "reverted"
            ), f"the contract reverted: {storable_text(reason[:MAX_REASON_CHARS])}"
        if selector == _PANIC:
            (number,) = decode(["uint256"], arguments)
            return "reverted", f"the contract reverted with panic 0x{number:02x}"
        if selector in (errors := _custom_errors()):
            return _explain_custom(errors[selector], arguments)
    except (DecodingError, UnicodeDecodeError):
        return "reverted", f"the contract reverted with malformed data, selector 0x{selector.hex()}"
    if not data:
        return "reverted", "the contract reverted without a reason"
    return "reverted", f"the contract reverted with the unknown error 0x{selector.hex()}"


def explain_error(name: str, **values: object) -> tuple[str, str]:
    """(code, detail) of a custom error by name, its arguments in order; addresses as lower-case hex."""
    named = ", ".join(f"{argument} {_shown(value)}" for argument, value in values.items())
    words = _words(name)
    return "_".join(words), f"the contract refused, {' '.join(words)}" + (f": {named}" if named else "")


def _explain_custom(error: dict[str, Any], arguments: bytes) -> tuple[str, str]:
    values = decode([i["type"] for i in error["inputs"]], arguments)
    return explain_error(error["name"], **{i["name"]: v for i, v in zip(error["inputs"], values, strict=True)})


def _shown(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def _words(camel: str) -> list[str]:
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+", camel)]


@cache
def _custom_errors() -> dict[bytes, dict[str, Any]]:
    found: dict[bytes, dict[str, Any]] = {}
    for contract in _CONTRACTS:
        for entry in load_abi(contract):
            if entry["type"] == "error":
                signature = f"{entry['name']}({','.join(i['type'] for i in entry['inputs'])})"
                found[keccak(signature.encode())[:4]] = entry
    return found
