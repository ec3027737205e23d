"""Celery's side of performance: prices are found while the chain's node still has the state of their blocks."""

from __future__ import annotations

import time

from tradingflow.account_manager.executor_process import ExecutorProcess
from tradingflow.account_manager.lone_task import lone_task
from tradingflow.account_manager.performance import repository
from tradingflow.account_manager.schedule import SLOW_RUN_S
from tradingflow.account_manager.sweep_edge import only_said
from tradingflow.db import cursors
from tradingflow.db.models import Vault

# Ordinary nodes keep the state of the last 128 blocks.
NEWS_BLOCKS = 128
# Vaults somebody waits for, taken up in one run: blocks of the past can wait for those a node is about to forget.
MAX_WANTED = 10


@lone_task("performance.price")
async def price(process: ExecutorProcess) -> None:
    """Find the prices of all vaults with recent events, and of some whose figures somebody asked for."""
    for chain_id in process.chains:
        began = time.monotonic()
        async with process.sessions() as session:
            next_block = await cursors.next_block(session, chain_id)
            vaults = await repository.vaults_with_news(session, chain_id, (next_block or 0) - NEWS_BLOCKS)
        for vault in vaults:  # those priced before take a moment: the next run comes further
            await _price_one(process, vault)
            if time.monotonic() - began > SLOW_RUN_S:
                break
        for _ in range(MAX_WANTED):
            async with process.sessions() as session, session.begin():
                wanted = await repository.next_wanted(session, chain_id)
            if wanted is None:
                break
            await _price_one(process, wanted)
            if time.monotonic() - began > SLOW_RUN_S:
                break


async def _price_one(process: ExecutorProcess, vault: Vault) -> None:
    with only_said("prices of a vault not found", vault=vault.address):
        await process.block_pricing.price(vault)
