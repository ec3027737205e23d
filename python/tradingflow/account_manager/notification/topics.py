"""What there is to tell of. Pure."""

from __future__ import annotations

from typing import Literal

from tradingflow.account_manager.user.preferences import NotificationPreferences

CONTRACT_EVENT = "contract.event"
CONTRACT_EVENT_REVERTED = "contract.event_reverted"
CONFIRMATION = "channel.confirmation"
TEST = "channel.test"

# What a webhook may choose; the rest a channel is told of because it asked for it otherwise.
Topic = Literal[
    "trade.completed", "trade.failed", "flow.failed", "vault.deployed", "vault.deployment_failed",
    "vault.deposit", "vault.withdrawal",
]  # fmt: skip

_ALWAYS = frozenset({"vault.deployed", "vault.deployment_failed"})


def preferred(preferences: NotificationPreferences) -> frozenset[str]:
    """The topics a user's preferences ask for, where a channel makes no choice of its own."""
    asked = {
        "trade.completed": preferences.trade_completed,
        "trade.failed": preferences.trade_failed,
        "flow.failed": preferences.flow_failed,
        "vault.deposit": preferences.vault_deposit,
        "vault.withdrawal": preferences.vault_withdrawal,
    }
    return _ALWAYS | {topic for topic, wanted in asked.items() if wanted}
