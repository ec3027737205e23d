"""Every status change of trades, transactions and vault deployments, in one table.

A change that is not listed does not happen: the update matches no row. That is what makes a step safe to repeat.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class TradeStatus(StrEnum):
    REQUESTED = "requested"
    SUBMITTED = "submitted"
    COMPLETED = "completed"
    FAILED = "failed"


class TransactionStatus(StrEnum):
    PREPARED = "prepared"
    BROADCAST = "broadcast"
    DROPPED = "dropped"
    MINED = "mined"
    REVERTED = "reverted"
    REPLACED = "replaced"


class DeploymentStatus(StrEnum):
    QUEUED = "queued"
    SIGNED = "signed"
    BROADCAST = "broadcast"
    MINED = "mined"
    VERIFIED = "verified"
    FAILED = "failed"


T, X, D = TradeStatus, TransactionStatus, DeploymentStatus

TRADE_TRANSITIONS: Final[dict[TradeStatus, frozenset[TradeStatus]]] = {
    # requested -> completed: the chain had executed this trade id already.
    T.REQUESTED: frozenset({T.SUBMITTED, T.COMPLETED, T.FAILED}),
    # submitted -> requested: a transaction that is not ours took the nonce, nothing of ours can be mined any more.
    T.SUBMITTED: frozenset({T.COMPLETED, T.FAILED, T.REQUESTED}),
    # The block of the receipt was reorganised away; to requested when no slot of the trade is left to follow.
    T.COMPLETED: frozenset({T.SUBMITTED, T.REQUESTED}),
    # failed -> requested: an operator asked for another try. failed -> completed: the chain knew better.
    T.FAILED: frozenset({T.SUBMITTED, T.REQUESTED, T.COMPLETED}),
}

TRANSACTION_TRANSITIONS: Final[dict[TransactionStatus, frozenset[TransactionStatus]]] = {
    X.PREPARED: frozenset({X.BROADCAST, X.DROPPED, X.MINED, X.REVERTED, X.REPLACED}),
    # broadcast -> broadcast: told to a node again.
    X.BROADCAST: frozenset({X.BROADCAST, X.DROPPED, X.MINED, X.REVERTED, X.REPLACED}),
    X.DROPPED: frozenset({X.BROADCAST, X.MINED, X.REVERTED, X.REPLACED}),
    # A reorg brings back whatever the chain had decided, and may decide otherwise.
    X.MINED: frozenset({X.BROADCAST, X.REVERTED, X.REPLACED}),
    X.REVERTED: frozenset({X.BROADCAST, X.MINED, X.REPLACED}),
    X.REPLACED: frozenset({X.BROADCAST, X.MINED, X.REVERTED}),
}

DEPLOYMENT_TRANSITIONS: Final[dict[DeploymentStatus, frozenset[DeploymentStatus]]] = {
    # queued -> mined: somebody else had created this vault already, which harms nobody.
    D.QUEUED: frozenset({D.SIGNED, D.MINED, D.FAILED}),
    D.SIGNED: frozenset({D.BROADCAST, D.MINED, D.FAILED, D.QUEUED}),
    D.BROADCAST: frozenset({D.MINED, D.FAILED, D.QUEUED}),
    # To broadcast: the block of the receipt was reorganised away.
    # mined -> queued: what somebody else had created is not there (any more).
    D.MINED: frozenset({D.VERIFIED, D.FAILED, D.BROADCAST, D.QUEUED}),
    D.VERIFIED: frozenset({D.BROADCAST}),
    D.FAILED: frozenset(),
}

UNMINED: Final = (X.PREPARED, X.BROADCAST, X.DROPPED)
DECIDED: Final = (X.MINED, X.REVERTED)
ENDED_DEPLOYMENTS: Final = (D.VERIFIED, D.FAILED)


def trade_sources(target: TradeStatus) -> tuple[TradeStatus, ...]:
    """The statuses a trade may have right before it becomes `target`."""
    return tuple(source for source, targets in TRADE_TRANSITIONS.items() if target in targets)


def transaction_sources(target: TransactionStatus) -> tuple[TransactionStatus, ...]:
    """The statuses a transaction may have right before it becomes `target`."""
    return tuple(source for source, targets in TRANSACTION_TRANSITIONS.items() if target in targets)


def deployment_sources(target: DeploymentStatus) -> tuple[DeploymentStatus, ...]:
    """The statuses a deployment may have right before it becomes `target`."""
    return tuple(source for source, targets in DEPLOYMENT_TRANSITIONS.items() if target in targets)
