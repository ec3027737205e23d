"""`make chaos-relayer`: several executor processes send trades from one key through a node that errs, and are killed.

Every trade is mined exactly once, nonces have no gap, nothing is stuck. Sizes by environment: PROCESSES (4), SENDS of
each (500), KILLS (50), VAULTS the trades are spread over (12: as many are in flight at most), SEED (1). Of the node's
answers 5 % are errors, and for 5 % of the transactions it takes it breaks off without an answer.
"""

import asyncio
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from sqlalchemy import func, select

from bench.figure import Figures, progress
from bench.trade_victims import VictimSettings, nursery, quiet_logs, spawn_executor
from devstack.executor_world import ONE_QUOTE, OPERATOR_INDEX, World, executor_world, operator_key
from devstack.lying_rpc import LyingRpc
from devstack.private_servers import PrivateServers
from tradingflow.chain.transactions import mined_nonce
from tradingflow.db.models import Trade, Transaction

REPOSITORY = Path(__file__).resolve().parents[2]
PROCESSES = int(os.environ.get("PROCESSES") or 4)
SENDS = int(os.environ.get("SENDS") or 500)
KILLS = int(os.environ.get("KILLS") or 50)
VAULTS = int(os.environ.get("VAULTS") or 12)
SEED = int(os.environ.get("SEED") or 1)
ERROR_RATE = 0.05
SILENCE_RATE = 0.05
BLOCK_TIME_S = 1
REPLACE_AFTER_S = 8.0
STUCK_AFTER_S = 60.0
# Per trade, on a loaded machine of two cores.
PATIENCE_S = 4.0
SETTLED = ("completed", "failed")


class Load:
    """The processes, and what they leave behind."""

    def __init__(self, world: World, context: ForkServerContext, settings: VictimSettings) -> None:
        self._world = world
        self._context = context
        self._settings = settings
        self._dice = random.Random(SEED)  # noqa: S311 - repeatable, not secret
        self._alive: list[ForkServerProcess] = []
        self.kills = 0

    async def run(self, trades: int) -> float:
        """Let the executors work until all is settled, killing one now and then; seconds it took."""
        began = time.monotonic()
        self._alive = [self._spawn() for _ in range(PROCESSES)]
        deadline = began + 120 + trades * PATIENCE_S
        try:
            while (settled := await self._settled()) < trades and time.monotonic() < deadline:
                # Kills are spread over the progress of the work, whatever its speed.
                if self.kills < KILLS and settled * KILLS >= self.kills * trades:
                    await self._kill_one()
                await asyncio.sleep(0.2)
        finally:
            for process in self._alive:
                process.kill()
                process.join()
        return time.monotonic() - began

    def _spawn(self) -> ForkServerProcess:
        return spawn_executor(self._context, self._settings, self._dice.randrange(2**32))

    async def _kill_one(self) -> None:
        place = self._dice.randrange(len(self._alive))
        self._alive[place].kill()
        await asyncio.to_thread(self._alive[place].join)
        self._alive[place] = self._spawn()
        self.kills += 1
        if self.kills % 10 == 0:
            progress(f"  {self.kills} kills, {await self._settled()} trades settled")

    async def _settled(self) -> int:
        async with self._world.sessions() as session:
            return await session.scalar(select(func.count()).where(Trade.status.in_(SETTLED))) or 0


async def judge(world: World, figures: Figures, first_nonce: int) -> None:
    """Compare the rows with the chain."""
    async with world.sessions() as session:
        trades = list(await session.scalars(select(Trade)))
        attempts = list(await session.scalars(select(Transaction).order_by(Transaction.nonce, Transaction.attempt)))
    executed = Counter(await world.all_executions())
    wrong = [t.id for t in trades if executed[t.id] != (t.status == "completed")]
    figures.show("relayer_trades_not_mined_exactly_once", len(wrong), "trades", target="== 0", ok=not wrong,
                 completed=sum(t.status == "completed" for t in trades),
                 failed=dict(Counter(t.failure_code for t in trades if t.status != "completed")))  # fmt: skip
    mined = await mined_nonce(world.client, world.signer.address)
    nonces = {a.nonce for a in attempts if a.status in ("mined", "reverted")}
    gaps = len(set(range(first_nonce, mined)) - nonces) + (await world.next_nonce() - mined)
    figures.show("relayer_nonce_gaps", gaps, "nonces", target="== 0", ok=gaps == 0, nonces=mined - first_nonce)
    slowest = max((waited(t) for t in trades), default=timedelta(0)).total_seconds()
    figures.show("relayer_longest_in_flight", slowest, "s", target="<= 60", ok=slowest <= STUCK_AFTER_S)
    pairs = [(a, b) for a, b in pairwise(attempts) if a.nonce == b.nonce]
    low = [b.hash for a, b in pairs if not raised(a, b)]
    figures.show("relayer_replacements_below_ten_percent", len(low), "transactions", target="== 0", ok=not low,
                 replacements=len(pairs))  # fmt: skip


def waited(trade: Trade) -> timedelta:
    if trade.submitted_at is None or trade.settled_at is None:
        return timedelta(0) if trade.status == "failed" else timedelta.max
    return trade.settled_at - trade.submitted_at


def raised(before: Transaction, after: Transaction) -> bool:
    fee = after.max_fee_per_gas * 10 >= before.max_fee_per_gas * 11
    tip = after.max_priority_fee_per_gas * 10 >= before.max_priority_fee_per_gas * 11
    return fee and tip


@asynccontextmanager
async def loaded_world() -> AsyncIterator[tuple[World, LyingRpc, VictimSettings]]:
    """Vaults and requested trades on a chain with a block a second, behind a node that errs."""
    with PrivateServers(REPOSITORY) as servers, servers.fresh_database() as url, servers.fresh_chain() as anvil:
        async with executor_world(anvil, url, REPOSITORY) as world, LyingRpc(anvil.url, SEED) as rpc:
            vaults = [world.vault, *await world.open_vaults(VAULTS - 1, REPOSITORY)]
            for number in range(PROCESSES * SENDS):
                await world.request_trade(ONE_QUOTE, slippage_bps=5000, vault=vaults[number % VAULTS])
            anvil.rpc("evm_setIntervalMining", BLOCK_TIME_S)
            rpc.lies.error_rate, rpc.lies.silence_after_send_rate = ERROR_RATE, SILENCE_RATE
            chain = world.client.settings.model_copy(update={"rpc_urls": (rpc.url,)})
            key = operator_key(OPERATOR_INDEX)
            yield world, rpc, VictimSettings(url, chain.model_dump_json(), key, REPLACE_AFTER_S)


async def run() -> int:
    quiet_logs()
    figures, context = Figures(), nursery()
    trades = PROCESSES * SENDS
    progress(f"seed {SEED}, {PROCESSES} processes, {trades} trades through {VAULTS} vaults, {KILLS} kills")
    async with loaded_world() as (world, rpc, settings):
        first_nonce = await mined_nonce(world.client, world.signer.address)
        load = Load(world, context, settings)
        seconds = await load.run(trades)
        figures.show("relayer_trades_settled", trades / seconds, "trades/s", target=f"after {KILLS} kills",
                     ok=load.kills == KILLS, kills=load.kills, node=rpc.lies.told)  # fmt: skip
        await judge(world, figures, first_nonce)
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(run()))
