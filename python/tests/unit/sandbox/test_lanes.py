"""Who computes much goes to the slow lane, until the account has drained."""

import os
import time

from tradingflow.py_worker.sandbox.lanes import (
    BURST_CPU_S,
    DEEPEST_CPU_S,
    DRAIN_CPU_S_PER_S,
    CpuAccounts,
    cpu_seconds,
)


def test_an_owner_of_small_runs_stays_in_the_quick_lane() -> None:
    accounts = CpuAccounts()
    for second in range(1000):
        for _ in range(40):
            accounts.charge("alice", 0.002, float(second))
        assert accounts.lane("alice", float(second)) == "quick"


def test_who_computes_more_than_a_burst_is_slow_until_the_account_has_drained() -> None:
    accounts = CpuAccounts()
    accounts.charge("mallory", BURST_CPU_S + 1, 100.0)
    assert accounts.lane("mallory", 100.0) == "slow"
    assert accounts.lane("mallory", 100.0 + 1 / DRAIN_CPU_S_PER_S - 0.1) == "slow"
    assert accounts.lane("mallory", 100.0 + 1 / DRAIN_CPU_S_PER_S + 0.1) == "quick"
    assert accounts.lane("alice", 100.0) == "quick"


def test_nobody_is_slow_for_ever() -> None:
    accounts = CpuAccounts()
    for _ in range(1000):
        accounts.charge("mallory", 30.0, 0.0)
    assert accounts.lane("mallory", DEEPEST_CPU_S / DRAIN_CPU_S_PER_S) == "quick"


def test_accounts_of_who_is_gone_are_forgotten() -> None:
    accounts = CpuAccounts()
    for number in range(25_000):
        accounts.charge(f"owner {number}", 0.001, number / 100)
    assert len(accounts._accounts) <= 10_000


def test_the_time_of_a_process_is_that_of_its_processor() -> None:
    before = cpu_seconds(os.getpid())
    began = time.process_time()
    while time.process_time() - began < 0.01:
        pass
    after = cpu_seconds(os.getpid())
    assert before is not None
    assert after is not None
    assert after - before >= 0.01
    assert cpu_seconds(2**22 - 1) is None
