"""The arithmetic of a preflight: how often, how much at worst, and which rules of the vault that meets. Pure.

Amounts are base units. Codes are those of the vault's own refusals where it would be the one to refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tradingflow.chain.vault_policy import NO_CAP
from tradingflow.py_worker.engine.interval import Every, Interval, Once

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Finding:
    """`blocks`: as things stand the trade would certainly revert. The others are for the owner to weigh."""

    code: str
    detail: str
    blocks: bool
    node_id: str | None = None


@dataclass(frozen=True)
class PlannedTrade:
    """What one trade node would do in a cycle. `amount_in` is None when another node brings it."""

    node_id: str
    chain_id: int
    vault: str
    token_in: str
    token_out: str
    amount_in: int | None


@dataclass(frozen=True)
class Allowance:
    """What the vault lets be sold of a token, and has of it; `balance` counts native currency it may wrap."""

    allowed: bool
    per_trade_cap: int
    per_day_cap: int
    spent_today: int
    balance: int


@dataclass(frozen=True)
class Spend:
    """The most that a day of the flow may sell of a token: `worst_case` is what it asks for, the cap aside."""

    chain_id: int
    vault: str
    token: str
    trades: int
    worst_case: int


def cycles_a_day(interval: Interval, now: datetime) -> int:
    """How many cycles the next 24 hours may start."""
    if isinstance(interval, Once):
        return 1
    if isinstance(interval, Every):
        return -(-DAY // interval.period)
    count, fire = 0, interval.step(now)
    while fire is not None and fire < now + DAY:
        count, fire = count + 1, interval.step(fire)
    return count


def trades_a_day(cycles: int, cooldown_s: int) -> int:
    """What of `cycles` trades the vault's cool-down leaves."""
    return cycles if cooldown_s == 0 else min(cycles, int(DAY.total_seconds()) // cooldown_s + 1)


def worst_case(trades: Iterable[PlannedTrade], times: int, per_trade_cap: int) -> int:
    """All trades of one token, `times` each; an amount that is not known yet is as large as a trade may be."""
    return sum(times * (per_trade_cap if trade.amount_in is None else trade.amount_in) for trade in trades)


def judge_amount(trade: PlannedTrade, allowance: Allowance, bought_here: bool) -> list[Finding]:
    """What the vault's caps and balance say to one trade. `bought_here`: the flow itself may bring the token."""
    amount, node = trade.amount_in, trade.node_id
    if not allowance.allowed:
        return [Finding("token_not_allowed", f"the vault does not allow {trade.token_in}", True, node)]
    if amount is None:
        return []
    found = []
    if amount > allowance.per_trade_cap:
        detail = f"a trade sells {amount} of {trade.token_in}; the vault allows {allowance.per_trade_cap}"
        found.append(Finding("per_trade_cap_exceeded", detail, True, node))
    if amount > allowance.per_day_cap:
        detail = f"one trade sells {amount} of {trade.token_in}; the vault allows {allowance.per_day_cap} a day"
        found.append(Finding("per_day_cap_exceeded", detail, True, node))
    if amount > allowance.balance:
        detail = f"a trade sells {amount} of {trade.token_in}; the vault holds {allowance.balance}"
        found.append(Finding("balance_too_low", detail, not bought_here, node))
    return found


def judge_day(spend: Spend, allowance: Allowance) -> list[Finding]:
    """Whether a day of the flow fits the vault's day cap and balance; trades beyond them fail one by one."""
    found = []
    if spend.worst_case > allowance.per_day_cap:
        found.append(
            Finding(
                "day_cap_binds",
                f"a day may ask for {spend.worst_case} of {spend.token} in {spend.trades} trades; the vault's cap of "
                f"{allowance.per_day_cap} refuses what is beyond",
                blocks=False,
            )
        )
    if spend.worst_case > allowance.balance:
        found.append(
            Finding(
                "balance_binds",
                f"a day may ask for {spend.worst_case} of {spend.token}; the vault holds {allowance.balance}",
                blocks=False,
            )
        )
    return found


def judge_bounds(spend: Spend, allowance: Allowance, has_loss_cap: bool) -> list[Finding]:
    """Whether the vault bounds what bad trades of the token may cost before its owner revokes the operator."""
    if has_loss_cap or allowance.per_day_cap != NO_CAP:
        return []
    detail = (
        f"{spend.vault} caps neither how much of {spend.token} a day may sell nor what trades may lose: bad trades "
        "could cost all of it; set per_day_cap or loss_cap in its policy"
    )
    return [Finding("losses_unbounded", detail, blocks=False)]


def is_bought(token: str, vault: str, trades: Sequence[PlannedTrade]) -> bool:
    """Whether another trade of the flow buys the token into this vault."""
    return any(trade.token_out == token and trade.vault == vault for trade in trades)
