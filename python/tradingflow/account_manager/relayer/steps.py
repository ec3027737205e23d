"""The steps between a decision and a stored receipt, by name: where a crash must do no harm.

Whoever runs a relayer may hand in a function that hears each step as it is reached. Tests hand in one that kills the
process there; production hands in none.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Step(StrEnum):
    """In the order a trade passes them. `*_before_commit` is inside the open database transaction."""

    INTENT_LOADED = "intent_loaded"
    PLANNED = "planned"
    PREPARED_BEFORE_COMMIT = "prepared_before_commit"
    PREPARED = "prepared"
    SENT_UNRECORDED = "sent_unrecorded"
    BROADCAST = "broadcast"
    REPLACEMENT_BEFORE_COMMIT = "replacement_before_commit"
    REPLACEMENT_PREPARED = "replacement_prepared"
    RECEIPT_FOUND = "receipt_found"
    SETTLED_BEFORE_COMMIT = "settled_before_commit"
    SETTLED = "settled"
    FINALIZED = "finalized"


Reached = Callable[[Step], None]


def unheard(_: Step) -> None:
    """Nobody listens."""
