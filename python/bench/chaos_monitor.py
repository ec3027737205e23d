"""`make chaos-monitor`: reorgs, kills and lying RPC nodes; afterwards the tables must equal a fresh index.

By environment: REORGS (500), KILLS (60), FAULTS (0.05, the share of spoilt requests), SEED.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from pydantic import SecretStr
from sqlalchemy import Row, func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from bench.figure import Figures, progress
from devstack.anvil import CHAIN_ID, Anvil
from devstack.emitter import Emitter, echo_contract, event_topic, transfer_burst_contract, word
from devstack.faulty_rpc import FaultyRpc
from devstack.monitor_process import MonitorProcess, monitor_process
from devstack.private_servers import PrivateServers
from tradingflow.chain.registry import AbiRegistry
from tradingflow.core.config import ChainSettings, PlatformSettings
from tradingflow.core.evm import parse_address
from tradingflow.core.logging import configure_logging
from tradingflow.db.engine import make_engine
from tradingflow.db.models.chain import ChainBlock, ChainCursor, ContractEvent, MonitoredContract
from tradingflow.db.models.outbox import OutboxMessage
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.chain_messages import ChainEvent, ChainEventReverted, decode_chain_message
from tradingflow.messaging.topology import CHAIN_EVENTS, CHAIN_EVENTS_FINAL
from tradingflow.monitor.notify import event_id
from tradingflow.monitor.server import follow_chain

REPOSITORY = Path(__file__).resolve().parents[2]
REORGS = int(os.environ.get("REORGS", "500"))
KILLS = int(os.environ.get("KILLS", "60"))
FAULTS = float(os.environ.get("FAULTS", "0.05"))
SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
FINALITY_BLOCKS = 32
SETTLE_TIMEOUT_S = 300
VAULT_CREATED = event_topic("VaultCreated(address,address)")
VAULT_EVENTS = (event_topic("Paused()"), event_topic("Unpaused()"), event_topic("NotOurs()"))


@dataclass
class Heard:
    """What a consumer that takes reverts into account believes to be on the chain."""

    present: set[str] = field(default_factory=set)
    final: set[str] = field(default_factory=set)
    reverts: int = 0
    doubted_final: int = 0

    async def instant(self, message: AbstractIncomingMessage) -> None:
        said = decode_chain_message(message.body)
        if isinstance(said, ChainEvent):
            self.present.add(said.event_id)
        elif isinstance(said, ChainEventReverted):
            self.present.discard(said.event_id)
            self.reverts += 1
            self.doubted_final += said.event_id in self.final
        await message.ack()

    async def finalized(self, message: AbstractIncomingMessage) -> None:
        said = decode_chain_message(message.body)
        if isinstance(said, ChainEvent):
            self.final.add(said.event_id)
        await message.ack()


class World:
    """The chain and its contracts: a token, a factory, and children the factory announces."""

    def __init__(self, anvil: Anvil, randomness: random.Random) -> None:
        self.emitter = Emitter(anvil)
        self._randomness = randomness
        self.token = self.emitter.deploy(transfer_burst_contract())
        self.late_token = self.emitter.deploy(transfer_burst_contract())
        self.factory = self.emitter.deploy(echo_contract(3))
        self._children = [self.emitter.deploy(echo_contract(1)) for _ in range(40)]
        self._value = 0

    def call(self) -> tuple[str, bytes]:
        """A random call that logs: a burst of transfers, a birth, or an event of a (perhaps unborn) child."""
        draw = self._randomness.random()
        child = self._randomness.choice(self._children)
        if draw < 0.4:
            self._value += 10
            token = self._randomness.choice((self.token, self.late_token))
            return token, word(self._randomness.randrange(0, 6)) + word(self._value)
        if draw < 0.6:
            return self.factory, VAULT_CREATED + word(self.emitter.account) + word(child)
        return child, self._randomness.choice(VAULT_EVENTS)

    def grow(self, blocks: int) -> None:
        for _ in range(blocks):
            calls = [self.call() for _ in range(self._randomness.randrange(0, 4))]
            self.emitter.in_one_block(calls)

    def reorg(self) -> int:
        depth = self._randomness.randint(1, min(32, self.emitter.head - 1))
        places = sorted(self._randomness.randrange(depth) for _ in range(self._randomness.randrange(0, 8)))
        self.emitter.reorg(depth, [(*self.call(), place) for place in places])
        return depth


class Chaos:
    """One run: a Monitor process that is killed and started again, and the world that moves under it."""

    def __init__(self, world: World, engine: AsyncEngine, urls: tuple[str, ...], log: Path) -> None:
        self._world = world
        self._engine = engine
        self._urls = urls
        self._log = log
        self._randomness = random.Random(SEED + 1)  # noqa: S311 - repeatable on purpose
        self.kills = 0
        self.depths: list[int] = []

    async def play(self) -> None:
        """All reorgs, with the Monitor killed after some of them."""
        kill_after = set(self._randomness.sample(range(REORGS), min(KILLS, REORGS)))
        done = 0
        while done < REORGS:
            async with self._monitor() as monitor:
                while done < REORGS:
                    await self._turn()
                    done += 1
                    if done - 1 in kill_after:
                        await asyncio.sleep(self._randomness.uniform(0, 0.1))
                        await monitor.kill()
                        self.kills += 1
                        break
            progress(f"{done} of {REORGS} reorgs, {self.kills} kills, head {self._world.emitter.head}")
            await asyncio.to_thread(self._world.grow, self._randomness.choice((0, 2, 60)))

    async def _turn(self) -> None:
        await asyncio.to_thread(self._world.grow, self._randomness.randrange(0, 5))
        if self._randomness.random() < 0.7:
            await self.until_stored(near=self._randomness.randrange(0, 6))
        self.depths.append(await asyncio.to_thread(self._world.reorg))

    async def until_stored(self, near: int = 0) -> None:
        """Wait until the cursor is within `near` blocks of the head; real progress, not time, is waited for."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while True:
            async with self._engine.connect() as connection:
                cursor = await connection.scalar(select(ChainCursor.next_block))
            if cursor is not None and cursor + near > self._world.emitter.head:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the Monitor does not reach the head; see {self._log}")
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def _monitor(self) -> AsyncIterator[MonitorProcess]:
        async with monitor_process(*self._urls, output=self._log, **CHAIN) as monitor:
            yield monitor

    async def settle(self) -> None:
        """With honest nodes: reach the head, read all the past, publish everything."""
        async with self._monitor():
            await self.until_stored()
            missing = MonitoredContract.history_next < MonitoredContract.live_from
            not_taken_up = MonitoredContract.history_next.is_(None)
            gap = select(func.count()).select_from(MonitoredContract).where(missing | not_taken_up)
            left = select(func.count()).select_from(OutboxMessage)
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                while await self._count(gap) or await self._count(left):  # noqa: ASYNC110 - another process's work
                    await asyncio.sleep(0.05)

    async def _count(self, query: Any) -> int:
        async with self._engine.connect() as connection:
            return int(await connection.scalar(query) or 0)


CHAIN: dict[str, Any] = {"finality_blocks": FINALITY_BLOCKS, "poll_interval_s": 0.02}


async def add_contracts(engine: AsyncEngine, contracts: dict[str, str]) -> None:
    rows = [
        {"chain_id": CHAIN_ID, "address": parse_address(address), "kind": kind, "from_block": 0}
        for address, kind in contracts.items()
    ]
    async with engine.begin() as connection:
        await connection.execute(insert(MonitoredContract), rows)


async def tables(engine: AsyncEngine) -> dict[str, list[Row[Any]]]:
    contracts = MonitoredContract.__table__.c
    queries = {
        "blocks": select(ChainBlock.__table__).order_by(ChainBlock.number),
        "events": select(ContractEvent.__table__).order_by(ContractEvent.block_number, ContractEvent.log_index),
        "contracts": select(
            contracts.address, contracts.kind, contracts.from_block, contracts.discovered_by
        ).order_by(contracts.address),
        "cursor": select(ChainCursor.next_block, ChainCursor.halted_reason),
    }  # fmt: skip
    async with engine.connect() as connection:
        return {name: list((await connection.execute(query)).all()) for name, query in queries.items()}


async def fresh_index(database_url: str, rpc_url: str, contracts: dict[str, str]) -> dict[str, list[Row[Any]]]:
    engine = make_engine(PlatformSettings(database_url=SecretStr(database_url)), application="fresh")
    await add_contracts(engine, contracts)
    settings = ChainSettings(chain_id=CHAIN_ID, name="fresh", rpc_urls=(rpc_url,), **CHAIN)
    async with follow_chain(settings, engine, AbiRegistry()) as follower:
        while not await follower.round():
            pass
    found = await tables(engine)
    await engine.dispose()
    return found


def judge(figures: Figures, stored: dict[str, list[Row[Any]]], fresh: dict[str, list[Row[Any]]], heard: Heard) -> None:
    for name, rows in fresh.items():
        differing = len({*map(repr, stored[name])} ^ {*map(repr, rows)})
        figures.show(
            f"chaos_monitor_{name}_differing_from_fresh_index", differing, "rows",
            target="== 0", ok=stored[name] == rows, rows=len(rows),
        )  # fmt: skip
    ids = {event_id(row.chain_id, row.block_hash, row.log_index) for row in stored["events"]}
    for name, count in {
        "published_without_row": len(heard.present - ids),
        "rows_never_published": len(ids - heard.present),
        "final_without_row": len(heard.final - ids),
        "final_taken_back": heard.doubted_final,
    }.items():
        figures.show(f"chaos_monitor_{name}", count, "events", target="== 0", ok=count == 0)


async def run(servers: PrivateServers, figures: Figures) -> None:
    async with AsyncExitStack() as stack:
        database_url = stack.enter_context(servers.fresh_database())
        fresh_url = stack.enter_context(servers.fresh_database())
        rabbitmq_url = stack.enter_context(servers.fresh_virtual_host())
        anvil = stack.enter_context(servers.fresh_chain())
        randomness = random.Random(SEED)  # noqa: S311 - repeatable on purpose
        world = World(anvil, randomness)
        nodes = [await stack.enter_async_context(FaultyRpc(anvil.url, randomness, FAULTS).serving()) for _ in "ab"]
        engine = make_engine(PlatformSettings(database_url=SecretStr(database_url)), application="chaos")
        stack.push_async_callback(engine.dispose)
        heard = Heard()
        broker = await stack.enter_async_context(Broker(rabbitmq_url, name="chaos", partitions=1))
        await listen(broker, heard)
        early = {world.token: "erc20", world.factory: "vault_factory"}
        late = {world.late_token: "erc20"}
        await add_contracts(engine, early)
        log = Path(tempfile.mkstemp(prefix="chaos-monitor-", suffix=".log")[1])
        chaos = Chaos(world, engine, (database_url, rabbitmq_url, *(node.url for node in nodes)), log)
        progress(f"seed {SEED}; the Monitor's log is {log}")
        playing = asyncio.create_task(chaos.play())
        await asyncio.sleep(5)
        await add_contracts(engine, late)
        await playing
        for node in nodes:
            node.rate = 0
        await chaos.settle()
        stored, fresh = await tables(engine), await fresh_index(fresh_url, anvil.url, early | late)
        await until_quiet(heard, stored)
        spoilt = {name: sum(node.spoilt.get(name, 0) for node in nodes) for node in nodes for name in node.spoilt}
        progress(f"depths {min(chaos.depths)}-{max(chaos.depths)}, faults {spoilt}, reverts {heard.reverts}")
        figures.show("chaos_monitor_reorgs", len(chaos.depths), "reorgs", target=f">= {REORGS}",
                     ok=len(chaos.depths) >= REORGS, kills=chaos.kills, faults=spoilt, seed=SEED)  # fmt: skip
        judge(figures, stored, fresh, heard)


async def listen(broker: Broker, heard: Heard) -> None:
    for exchange, consumer in ((CHAIN_EVENTS, heard.instant), (CHAIN_EVENTS_FINAL, heard.finalized)):
        channel = await broker.channel(prefetch=500)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, "#")
        await queue.consume(consumer)


async def until_quiet(heard: Heard, stored: dict[str, list[Row[Any]]]) -> None:
    """The last confirmed messages are still on their way to the consumer for a moment."""
    deadline = time.monotonic() + 10
    while len(heard.present) != len(stored["events"]) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


def main() -> int:
    configure_logging("chaos", "CRITICAL")
    figures = Figures()
    with PrivateServers(REPOSITORY) as servers:
        asyncio.run(run(servers, figures))
    return figures.exit_code


if __name__ == "__main__":
    sys.exit(main())
