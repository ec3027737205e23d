"""What a plan says of the day its trade counts for."""

from __future__ import annotations

from datetime import UTC, date, datetime

from tradingflow.account_manager.relayer.relayer import Call
from tradingflow.account_manager.trade.plan import Plan
from tradingflow.chain.fees import Fees
from tradingflow.chain.vault import TokenPolicy


def test_what_the_last_block_of_yesterday_counts_is_not_spent_today() -> None:
    policy = TokenPolicy(allowed=True, per_trade_cap=10, per_day_cap=100, spent_today=95)
    plan = Plan("0x", Call("0x", b"", 1), Fees(1, 1), 1, policy, datetime(2026, 3, 1, 23, 59, 55, tzinfo=UTC))
    assert plan.policy_on(date(2026, 3, 1)).spent_today == 95
    assert plan.policy_on(date(2026, 3, 2)).spent_today == 0
