"""`make chaos-trades`: executors are killed at every step of a trade; each trade is mined exactly once.

Sizes by environment: CRASHES at each step (10), SEED (1). Beside the kills: the message delivered to four executors at
once, a node that takes transactions and does not say so, a node that lies about nonces both ways, and reorgs of the
receipt. Every end state is compared with that of a run nothing happened to.
"""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

from bench.figure import Figures, progress
from bench.trade_victims import VictimSettings, nursery, quiet_logs, relayer_of, spawn_dying
from devstack.anvil import CHAIN_ID
from devstack.executor_world import ONE_QUOTE, OPERATOR_INDEX, World, executor_world, operator_key
from devstack.lying_rpc import LyingRpc
from devstack.private_servers import PrivateServers
from tradingflow.account_manager.relayer.healing import NonceHealer
from tradingflow.account_manager.relayer.steps import Step
from tradingflow.account_manager.trade.executor import TradeExecutor
from tradingflow.chain.transactions import mined_nonce
from tradingflow.core.errors import TradingFlowError

REPOSITORY = Path(__file__).resolve().parents[2]
CRASHES = int(os.environ.get("CRASHES") or 10)
SEED = int(os.environ.get("SEED") or 1)
EXECUTORS_AT_ONCE = 4
# Short, so that replacements happen in the time of a test.
REPLACE_AFTER_S = 0.3
SETTLE_TRIES = 200
REPLACEMENT_STEPS = (Step.REPLACEMENT_BEFORE_COMMIT, Step.REPLACEMENT_PREPARED)
FINALITY_BLOCKS = 8


@dataclass(frozen=True)
class EndState:
    """What a trade leaves behind, without what may differ between two good runs."""

    status: str
    failure: str | None
    executions: int
    mined: int
    unmined: int
    told: bool


UNDISTURBED = EndState("completed", None, executions=1, mined=1, unmined=0, told=True)


class Chaos:
    """One world, one nursery of victims."""

    def __init__(self, world: World, context: ForkServerContext, settings: VictimSettings, rpc: LyingRpc) -> None:
        self._world = world
        self._context = context
        self._settings = settings
        self._rpc = rpc
        self.wrong: list[str] = []
        self.kills: Counter[str] = Counter()

    async def crash_at(self, step: Step) -> None:
        """One trade whose executor dies at this step; another one finishes it."""
        identity = await self._world.request_trade(ONE_QUOTE)
        if step in REPLACEMENT_STEPS:
            await self._leave_unmined(identity)
        if step is Step.FINALIZED:
            await self._settle(identity)
            self._world.anvil.rpc("anvil_mine", FINALITY_BLOCKS)
        victim = spawn_dying(self._context, self._settings, identity, step)
        await asyncio.to_thread(victim.join, 60)
        self.kills[step] += victim.exitcode == -9
        self._world.anvil.rpc("evm_setAutomine", True)
        self._world.anvil.rpc("evm_mine")
        await self._check(identity, f"crash at {step}")

    async def _leave_unmined(self, identity: str) -> None:
        self._world.anvil.rpc("evm_setAutomine", False)
        async with relayer_of(self._settings) as relayer:
            await TradeExecutor(relayer).advance(identity)
        await asyncio.sleep(REPLACE_AFTER_S)

    async def deliver_to_many(self) -> None:
        """The message arrives more than once, and several executors take it at the same moment."""
        identity = await self._world.request_trade(ONE_QUOTE)
        victims = [
            spawn_dying(self._context, self._settings, identity, Step.FINALIZED) for _ in range(EXECUTORS_AT_ONCE)
        ]
        await asyncio.gather(*(asyncio.to_thread(v.join, 60) for v in victims))
        await self._check(identity, "delivered to many")

    async def silent_node(self) -> None:
        """The node takes the transaction and breaks the connection before it says so."""
        self._rpc.lies.silence_after_send_rate = 1.0
        identity = await self._world.request_trade(ONE_QUOTE)
        await self._try_once(identity)
        self._rpc.lies.silence_after_send_rate = 0.0
        await self._check(identity, "silent node")

    async def lying_node(self, lie: int) -> None:
        """The node counts more or fewer transactions of ours than the chain has."""
        self._rpc.lies.nonce_lie = lie
        identity = await self._world.request_trade(ONE_QUOTE)
        await self._try_once(identity)
        await self._try_once(identity)
        async with relayer_of(self._settings) as relayer:
            await NonceHealer(relayer).heal(CHAIN_ID, self._world.signer.address)
        self._rpc.lies.nonce_lie = 0
        await self._check(identity, f"nonce lie {lie:+d}")

    async def reorg(self) -> None:
        """The block of the receipt is gone after the trade was settled."""
        identity = await self._world.request_trade(ONE_QUOTE)
        await self._settle(identity)
        self._world.anvil.rpc("anvil_reorg", 1, [])
        await self._try_once(identity)
        await self._check(identity, "reorg")

    async def _try_once(self, identity: str) -> None:
        async with relayer_of(self._settings) as relayer:
            try:
                await TradeExecutor(relayer).advance(identity)
            except TradingFlowError as error:
                progress(f"  {error.code}")

    async def _settle(self, identity: str) -> None:
        async with relayer_of(self._settings) as relayer:
            executor, healer = TradeExecutor(relayer), NonceHealer(relayer)
            for _ in range(SETTLE_TRIES):
                await executor.advance(identity)
                trade = await self._world.trade(identity)
                if trade.status in ("completed", "failed"):
                    return
                await healer.heal(CHAIN_ID, self._world.signer.address)
                await asyncio.sleep(0.05)

    async def _check(self, identity: str, what: str) -> None:
        await self._settle(identity)
        state = await self._end_state(identity)
        if state != UNDISTURBED:
            self.wrong.append(f"{what}: {state}")
            progress(f"  wrong after {what}: {state}")

    async def _end_state(self, identity: str) -> EndState:
        trade = await self._world.trade(identity)
        attempts = await self._world.transactions(identity)
        receipts = [await self._receipt(a.hash) for a in attempts]
        return EndState(
            status=trade.status,
            failure=trade.failure_code,
            executions=await self._world.executions(identity),
            mined=sum(r is not None for r in receipts),
            unmined=sum(a.status in ("prepared", "broadcast", "dropped") for a in attempts),
            told=any(m.message_id.startswith(identity) for m in await self._world.told()),
        )

    async def _receipt(self, transaction_hash: str) -> object:
        return self._world.anvil.rpc("eth_getTransactionReceipt", transaction_hash)

    async def missing_nonces(self) -> int:
        """Nonces given out and not mined once everything is settled."""
        async with relayer_of(self._settings) as relayer:
            await NonceHealer(relayer).heal(CHAIN_ID, self._world.signer.address)
        mined = await mined_nonce(self._world.client, self._world.signer.address)
        return await self._world.next_nonce() - mined


async def times(count: int, scenario: Callable[[], Awaitable[None]]) -> None:
    for _ in range(count):
        await scenario()


async def play(chaos: Chaos, figures: Figures) -> None:
    """Every scenario, and a figure for each."""
    for step in Step:
        before = len(chaos.wrong)
        await times(CRASHES, lambda step=step: chaos.crash_at(step))  # type: ignore[misc]
        wrong = len(chaos.wrong) - before
        ok = wrong == 0 and chaos.kills[step] == CRASHES
        figures.show(f"trades_wrong_after_crash_at_{step}", wrong, "trades", target="== 0, all killed", ok=ok,
                     kills=chaos.kills[step])  # fmt: skip
    others: dict[str, Callable[[], Awaitable[None]]] = {
        "delivered_to_four_executors": chaos.deliver_to_many,
        "node_silent_after_accepting": chaos.silent_node,
        "node_counts_too_few": lambda: chaos.lying_node(-3),
        "node_counts_too_many": lambda: chaos.lying_node(+3),
        "receipt_reorganised_away": chaos.reorg,
    }
    for name, scenario in others.items():
        before = len(chaos.wrong)
        await times(CRASHES, scenario)
        wrong = len(chaos.wrong) - before
        figures.show(f"trades_wrong_{name}", wrong, "trades", target="== 0", ok=wrong == 0, rounds=CRASHES)
    missing = await chaos.missing_nonces()
    figures.show("nonces_missing_at_the_end", missing, "nonces", target="== 0", ok=missing == 0)


@asynccontextmanager
async def chaos_world() -> AsyncIterator[Chaos]:
    """Servers, chain, vault and a node not to be trusted in front of the chain."""
    context = nursery()
    with PrivateServers(REPOSITORY) as servers, servers.fresh_database() as url, servers.fresh_chain() as anvil:
        async with executor_world(anvil, url, REPOSITORY) as world, LyingRpc(anvil.url, SEED) as rpc:
            chain = world.client.settings.model_copy(update={"rpc_urls": (rpc.url,)})
            key = operator_key(OPERATOR_INDEX)
            settings = VictimSettings(url, chain.model_dump_json(), key, REPLACE_AFTER_S)
            yield Chaos(world, context, settings, rpc)


async def run() -> int:
    quiet_logs()
    figures = Figures()
    progress(f"seed {SEED}, {CRASHES} crashes at each of {len(Step)} steps")
    async with chaos_world() as chaos:
        await play(chaos, figures)
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(run()))
