"""What beat starts, and how often. Holds no key and imports none: the web process reads it, too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class Tick:
    """A job of beat, named as its task: started every `every`, worth nothing after `expires_s`.

    A `slow` one waits for others' servers, for minutes at worst, and may not run beside another slow one.
    """

    task: str
    every: timedelta
    expires_s: int
    purpose: str
    slow: bool = False


TICKS = {
    tick.task: tick
    for tick in (
        Tick("trade.sweep", timedelta(seconds=1), 5, "takes every trade that is not final a step further"),
        Tick("relayer.heal", timedelta(seconds=5), 10, "finds stuck transactions, fills gaps in the signers' nonces"),
        Tick("vault.sweep", timedelta(seconds=1), 5, "takes every vault deployment a step further"),
        Tick("price.refresh", timedelta(seconds=15), 15, "asks the markets for prices"),
        Tick("portfolio.value", timedelta(seconds=20), 20, "values the vaults", slow=True),
        Tick("performance.price", timedelta(seconds=20), 20, "prices blocks for profit and loss", slow=True),
        Tick("notification.collect", timedelta(seconds=1), 5, "turns stored events and ended trades into notices"),
        Tick("notification.deliver", timedelta(seconds=1), 5, "sends webhooks, Telegram messages and mails", slow=True),
        Tick("retention.sweep", timedelta(hours=1), 60, "deletes what is past its time"),
        Tick("token.refresh", timedelta(minutes=1), 60, "reads tokens again that were last read a day ago"),
    )
}

# The slow jobs, and how often each is due. Two of them at once would take both processes of a worker from the trades.
SLOW = {tick.task: tick.every for tick in TICKS.values() if tick.slow}
# The others wait for it: after so long it begins no new notice, nor another vault of the chain it is at.
SLOW_RUN_S = 20.0

# Two beats start a job twice a period. What begins sooner after the last run than this part of its period is the
# other beat's; a single late or early beat stays well inside it.
SOONEST_PART = 0.75


def soonest_again(task: str) -> timedelta:
    """How long after the start of one run the next may start; nothing for what beat does not start."""
    tick = TICKS.get(task)
    return tick.every * SOONEST_PART if tick else timedelta()
