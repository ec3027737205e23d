"""How often, how much at worst, and which rules of a vault that meets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tradingflow.chain.vault_policy import NO_CAP
from tradingflow.py_worker.engine.interval import parse_interval
from tradingflow.py_worker.preflight.judgement import (
    Allowance,
    PlannedTrade,
    Spend,
    cycles_a_day,
    is_bought,
    judge_amount,
    judge_bounds,
    judge_day,
    trades_a_day,
    worst_case,
)

NOW = datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
TRADE = PlannedTrade("swap", 1, "0xvault", "0xusd", "0xeth", 100)
ROOMY = Allowance(allowed=True, per_trade_cap=100, per_day_cap=1000, spent_today=0, balance=1000)


@pytest.mark.parametrize(
    ("interval", "cycles"),
    [("0", 1), ("5m", 288), ("1d", 1), ("7d", 1), (0.5, 172_800), ("7h", 4), ("0 */6 * * * UTC", 4),
     ("0 9 * * 1-5 Europe/Berlin", 1)],
)  # fmt: skip
def test_cycles_of_the_next_day(interval: object, cycles: int) -> None:
    assert cycles_a_day(parse_interval(interval), NOW) == cycles


def test_a_cool_down_leaves_one_trade_at_both_ends_of_the_day() -> None:
    assert trades_a_day(288, 0) == 288
    assert trades_a_day(288, 21_600) == 5
    assert trades_a_day(3, 60) == 3


def test_an_amount_that_is_not_known_is_as_large_as_a_trade_may_be() -> None:
    assert worst_case([TRADE, replace(TRADE, amount_in=None)], 10, per_trade_cap=250) == 10 * 100 + 10 * 250


def codes(trade: PlannedTrade, allowance: Allowance, *, bought_here: bool = False) -> dict[str, bool]:
    return {finding.code: finding.blocks for finding in judge_amount(trade, allowance, bought_here)}


def test_what_the_vault_would_refuse_blocks() -> None:
    assert codes(TRADE, ROOMY) == {}
    assert codes(TRADE, replace(ROOMY, allowed=False)) == {"token_not_allowed": True}
    assert codes(TRADE, replace(ROOMY, per_trade_cap=99)) == {"per_trade_cap_exceeded": True}
    assert codes(TRADE, replace(ROOMY, per_day_cap=99)) == {"per_day_cap_exceeded": True}
    assert codes(TRADE, replace(ROOMY, balance=99)) == {"balance_too_low": True}


def test_a_balance_the_flow_may_buy_itself_does_not_block() -> None:
    assert codes(TRADE, replace(ROOMY, balance=99), bought_here=True) == {"balance_too_low": False}
    buys = replace(TRADE, token_in="0xeth", token_out="0xusd")
    assert is_bought("0xusd", "0xvault", [buys])
    assert not is_bought("0xusd", "0xother", [buys])


def test_a_day_that_does_not_fit_is_said_and_blocks_nothing() -> None:
    spend = Spend(1, "0xvault", "0xusd", trades=11, worst_case=1100)
    assert [(f.code, f.blocks) for f in judge_day(spend, ROOMY)] == [("day_cap_binds", False), ("balance_binds", False)]
    assert judge_day(replace(spend, worst_case=1000), ROOMY) == []


def test_a_vault_without_day_cap_and_loss_cap_is_told_and_blocks_nothing() -> None:
    spend, uncapped = Spend(1, "0xvault", "0xusd", trades=1, worst_case=100), replace(ROOMY, per_day_cap=NO_CAP)
    (finding,) = judge_bounds(spend, uncapped, has_loss_cap=False)
    assert (finding.code, finding.blocks) == ("losses_unbounded", False)
    assert judge_bounds(spend, uncapped, has_loss_cap=True) == []
    assert judge_bounds(spend, ROOMY, has_loss_cap=False) == []
