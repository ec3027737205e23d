"""A user's preferences: typed, with a default for each, stored as what differs from the defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Raise it with a step in `upgrade` when a field is renamed or changes its meaning.
SCHEMA_VERSION = 1


def _time_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("must be an IANA time zone, for example Europe/Berlin or UTC")
    return name


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NotificationPreferences(_Section):
    """Which events are told over the user's channels."""

    trade_completed: bool = True
    trade_failed: bool = True
    flow_failed: bool = True
    vault_deposit: bool = False
    vault_withdrawal: bool = True


class Preferences(_Section):
    language: Literal["en", "zh-CN"] = "en"
    time_zone: Annotated[str, AfterValidator(_time_zone), Field(max_length=64)] = "UTC"
    display_currency: Literal["USD", "EUR", "CNY", "ETH", "BTC"] = "USD"
    default_slippage_bps: int = Field(default=50, ge=1, le=1000, description="Hundredths of a percent")
    hide_spam_tokens: bool = True
    notifications: NotificationPreferences = NotificationPreferences()


class NotificationPatch(_Section):
    trade_completed: bool | None = None
    trade_failed: bool | None = None
    flow_failed: bool | None = None
    vault_deposit: bool | None = None
    vault_withdrawal: bool | None = None


class PreferencesPatch(_Section):
    """Only what is given changes; null puts a preference back to its default."""

    language: Literal["en", "zh-CN"] | None = None
    time_zone: Annotated[str, AfterValidator(_time_zone), Field(max_length=64)] | None = None
    display_currency: Literal["USD", "EUR", "CNY", "ETH", "BTC"] | None = None
    default_slippage_bps: int | None = Field(default=None, ge=1, le=1000)
    hide_spam_tokens: bool | None = None
    notifications: NotificationPatch | None = None


def upgrade(version: int, stored: dict[str, Any]) -> dict[str, Any]:
    """What an older release stored, as this one reads it."""
    if version > SCHEMA_VERSION:
        return {name: value for name, value in stored.items() if name in Preferences.model_fields}
    return stored


def merge(stored: dict[str, Any], patch: PreferencesPatch) -> dict[str, Any]:
    """What to store after a patch."""
    changes = patch.model_dump(exclude_unset=True)
    section = changes.pop("notifications", None) or {}
    kept = {**stored.get("notifications", {}), **section}
    merged = {**stored, **changes, "notifications": {name: v for name, v in kept.items() if v is not None}}
    if "notifications" in patch.model_fields_set and patch.notifications is None:
        del merged["notifications"]
    return {name: value for name, value in merged.items() if value not in (None, {})}
