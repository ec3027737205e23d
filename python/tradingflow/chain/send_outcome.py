"""What nodes say to a signed transaction. Pure."""

from __future__ import annotations

from enum import StrEnum


class SendOutcome(StrEnum):
    """Only `accepted` and `known` mean that the node holds the transaction now."""

    ACCEPTED = "accepted"
    KNOWN = "known"
    NONCE_TOO_LOW = "nonce_too_low"
    UNDERPRICED = "underpriced"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    REFUSED = "refused"

    @property
    def is_held(self) -> bool:
        return self in (SendOutcome.ACCEPTED, SendOutcome.KNOWN)


# What nodes say (geth, erigon, nethermind, anvil), in lower case, and what it means. First match wins.
_NODE_MESSAGES = (
    ("already known", SendOutcome.KNOWN),
    ("already imported", SendOutcome.KNOWN),
    ("known transaction", SendOutcome.KNOWN),
    ("alreadyknown", SendOutcome.KNOWN),
    ("nonce too low", SendOutcome.NONCE_TOO_LOW),
    ("oldnonce", SendOutcome.NONCE_TOO_LOW),
    ("underpriced", SendOutcome.UNDERPRICED),
    ("fee too low", SendOutcome.UNDERPRICED),
    ("less than block base fee", SendOutcome.UNDERPRICED),
    ("insufficient funds", SendOutcome.INSUFFICIENT_FUNDS),
)

# JSON-RPC's "internal error", and EIP-1474's "limit exceeded": nothing about what was asked.
NODES_OWN_TROUBLE = (-32603, -32005)


def meaning_of(message: str) -> SendOutcome:
    """What a node's refusal in its own words means."""
    lowered = message.lower()
    return next((outcome for words, outcome in _NODE_MESSAGES if words in lowered), SendOutcome.REFUSED)
