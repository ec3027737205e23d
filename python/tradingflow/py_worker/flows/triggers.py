"""`trigger` of a flow: what starts its cycles besides a person."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tradingflow.core.errors import InvalidInput
from tradingflow.core.evm import parse_address
from tradingflow.py_worker.engine.interval import Cron, parse_interval

TIMED = ("interval", "cron")
ALLOWED = (
    "a flow has a cycle_interval (trigger interval or cron), or else the trigger "
    '{"type": "manual"}, {"type": "webhook"} or {"type": "contract_event", "chain_id", "address", "event"}'
)


class _Trigger(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TimedTrigger(_Trigger):
    """Cycles start as `cycle_interval` says; the same as leaving `trigger` out."""

    type: Literal["interval", "cron"]


class ManualTrigger(_Trigger):
    """Cycles start by `POST /flows/{id}/cycles` only."""

    type: Literal["manual"]


class WebhookTrigger(_Trigger):
    """Each `POST /hooks/{token}` starts a cycle; the token comes from `POST /flows/{id}/hook`."""

    type: Literal["webhook"]


def _address(text: str) -> str:
    try:
        return parse_address(text)
    except InvalidInput as error:
        raise ValueError(error.detail) from error


class ContractEventTrigger(_Trigger):
    """Each event of a monitored contract starts a cycle, but for those of blocks that the Monitor had stored when the
    flow was started, or given this trigger. One that finds a thousand waiting for the flow already is skipped.

    `final` waits until a reorg can no longer take the event back; without it the cycle starts as soon as the event is
    seen, and may have acted on an event that is then undone.
    """

    type: Literal["contract_event"]
    chain_id: int = Field(ge=1, le=2**63 - 1)
    address: Annotated[str, AfterValidator(_address)] = Field(pattern=r"^0x[0-9a-fA-F]{40}$")
    event: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$", description="The event's name; null: every event"
    )
    final: bool = True


Trigger = Annotated[TimedTrigger | ManualTrigger | WebhookTrigger | ContractEventTrigger, Field(discriminator="type")]


def judge_trigger(cycle_interval: float | str | None, trigger: Trigger | None) -> dict[str, Any]:
    """The trigger as it is stored. Raises InvalidInput when interval and trigger do not go together."""
    if trigger is not None and not isinstance(trigger, TimedTrigger):
        if cycle_interval is not None:
            raise InvalidInput("invalid_trigger", f"a flow with trigger {trigger.type} has no interval; {ALLOWED}")
        return trigger.model_dump()
    if cycle_interval is None:
        raise InvalidInput("invalid_interval", f"cycle_interval is missing; {ALLOWED}")
    kind = "cron" if isinstance(parse_interval(cycle_interval), Cron) else "interval"
    if trigger is not None and trigger.type != kind:
        raise InvalidInput("invalid_trigger", f"the trigger says {trigger.type}, but cycle_interval is an {kind}")
    return {"type": kind}
