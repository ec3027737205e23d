"""A worker that stops while it subscribes to contract events stops all the same."""

from __future__ import annotations

import asyncio

import pytest

from tradingflow.core.config import WorkerSettings
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.contract_events import ContractEvents, bind_contract_events, keep_bound

DEADLINE_S = 10.0
WANTED = ContractEvents(1, "0x88e6A0c2dDD26FEEb64F039a2c41296FcB3f5640", "Swap", True)


async def wanted() -> set[ContractEvents]:
    return {WANTED}


@pytest.mark.parametrize("turns", range(0, 80, 4))
async def test_cancelled_at_any_turn_it_ends(settings: WorkerSettings, turns: int) -> None:
    async with Broker(settings.rabbitmq_dsn, name="test", partitions=1) as broker:
        binding = asyncio.create_task(keep_bound(broker, wanted))
        for _ in range(turns):
            await asyncio.sleep(0.0003)
        binding.cancel()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait([binding])
        assert binding.cancelled()
        await bind_contract_events(broker, [WANTED])  # the connection is as good as before
