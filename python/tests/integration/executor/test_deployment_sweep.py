"""The sweep over vault deployments that have not ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock, call

import pytest
from sqlalchemy import func, update
from sqlalchemy.exc import OperationalError

from devstack.executor_world import World
from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.vault import tasks
from tradingflow.account_manager.vault.tasks import sweep
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.db.models import VaultDeployment


async def test_sweep_reaches_every_deployment_however_many_older_ones_stay_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a chain whose purse is empty stay open without limit; some of them were asked for in one moment."""
    waiting = [await world.queue_deployment(str(number)) for number in range(5)]
    async with world.sessions.begin() as session:
        await session.execute(update(VaultDeployment).values(created_at=func.now()))
    newest = await world.queue_deployment("newest")
    monkeypatch.setattr(tasks, "SWEEP_BATCH", 2)
    advance = AsyncMock()
    await sweep(process_of(world, advance))
    assert advance.await_args_list == [call(each) for each in [*sorted(waiting), newest]]


@pytest.mark.parametrize(
    "error", [DependencyUnavailable("rpc_unavailable", "no node"), OperationalError("s", {}, OSError()), KeyError("x")]
)
async def test_a_deployment_that_fails_keeps_no_other_waiting(world: World, error: Exception) -> None:
    both = [await world.queue_deployment(str(number)) for number in range(2)]
    advance = AsyncMock(side_effect=[error, None])
    await sweep(process_of(world, advance))
    assert advance.await_args_list == [call(each) for each in both]


def process_of(world: World, advance: AsyncMock) -> ExecutorProcess:
    process = SimpleNamespace(sessions=world.sessions, deployments=SimpleNamespace(advance=advance))
    return cast("ExecutorProcess", process)
