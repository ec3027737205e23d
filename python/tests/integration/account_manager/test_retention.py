"""Valuations of a vault grow thinner as they grow old, and what came last in each step stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

from sqlalchemy import select

from tests.integration.account_manager.conftest import Session
from tests.integration.account_manager.test_history_routes import BASE, VAULT
from tests.integration.account_manager.test_portfolio_history import OTHER, add_vault, value
from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.retention import tasks
from tradingflow.core.clock import SimulatedClock
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import Vault, VaultValuation

NOW = datetime(2026, 6, 1, tzinfo=UTC)


async def kept(sessions: SessionFactory, address: str) -> list[datetime]:
    times = select(VaultValuation.taken_at).join(Vault, Vault.id == VaultValuation.vault_id)
    async with sessions() as session:
        chosen = times.where(Vault.address == address).order_by(VaultValuation.taken_at)
        return list(await session.scalars(chosen))


async def test_old_valuations_are_thinned_and_the_last_of_each_step_stays(
    alice: Session, sessions: SessionFactory
) -> None:
    ages = {
        VAULT: timedelta(days=1),  # too young
        OTHER: timedelta(days=8),
        BASE: timedelta(days=91),
    }
    times = {}
    for address, age in ages.items():
        await add_vault(sessions, alice, address)
        times[address] = [NOW - age + timedelta(seconds=50 * n) for n in range(160)]  # over two hours
        for at in times[address]:
            await value(sessions, address, at, "1")
    process = SimpleNamespace(sessions=sessions, clock=SimulatedClock(NOW))
    thinned = await tasks._thin_valuations(cast("ExecutorProcess", process))
    assert await kept(sessions, VAULT) == times[VAULT]
    for address, step_s in ((OTHER, 300), (BASE, 3600)):
        last = {at.timestamp() // step_s: at for at in times[address]}
        assert await kept(sessions, address) == list(last.values())
    assert thinned == 2 * 160 - len(await kept(sessions, OTHER)) - len(await kept(sessions, BASE))
    assert await tasks._thin_valuations(cast("ExecutorProcess", process)) == 0
