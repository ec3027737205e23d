"""Notices as people read them, in a chat or a mail. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TITLES = {
    "trade.completed": "Trade completed",
    "trade.failed": "Trade failed",
    "flow.failed": "Flow failed",
    "vault.deployed": "Vault deployed",
    "vault.deployment_failed": "Vault not deployed",
    "vault.deposit": "Deposit to a vault",
    "vault.withdrawal": "Withdrawal from a vault",
}
MAX_VALUE_CHARS = 300


@dataclass(frozen=True)
class Text:
    title: str
    body: str


def notice(topic: str, payload: Mapping[str, Any]) -> Text:
    """The title, and a line a field that has a value."""
    lines = [f"{name.replace('_', ' ')}: {_shown(value)}" for name, value in payload.items() if value is not None]
    return Text(f"TradingFlow: {_TITLES.get(topic, topic)}", "\n".join(lines))


def confirmation(code: str) -> Text:
    body = (
        f"Your code is {code}. Enter it within 15 minutes to get TradingFlow's notices here.\n"
        "If you did not ask for this, ignore it: nothing else will be sent."
    )
    return Text("TradingFlow: confirm this address", body)


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= MAX_VALUE_CHARS else text[:MAX_VALUE_CHARS] + "…"
