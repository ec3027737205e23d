"""From a mined block to its committed events and to their messages, with blocks a second apart."""

import asyncio
import time
from dataclasses import dataclass, field

import asyncpg
from aio_pika.abc import AbstractIncomingMessage

from devstack.anvil import Anvil
from devstack.emitter import Emitter, transfer_burst_contract, word
from devstack.monitor_process import monitor_process
from tradingflow.core.evm import parse_address
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.topology import CHAIN_EVENTS
from tradingflow.monitor.notify import LANE

EVENTS_PER_BLOCK = 100
BLOCK_TIME_S = 1.0
WARM_UP_BLOCKS = 3
INSERT = "INSERT INTO monitored_contracts (chain_id, address, kind, from_block) VALUES ($1, $2, 'erc20', 0)"


@dataclass
class Latencies:
    """Milliseconds a block, in the order they were mined."""

    committed: list[float] = field(default_factory=list)
    published: list[float] = field(default_factory=list)


class Watch:
    """Notes when the outbox said a commit, and when all messages of a block had come."""

    def __init__(self) -> None:
        self._messages = 0
        self.committed = asyncio.get_running_loop().create_future()
        self.published = asyncio.get_running_loop().create_future()

    def on_commit(self, _: object, __: int, ___: str, lane: object) -> None:
        if lane == LANE and not self.committed.done():
            self.committed.set_result(time.perf_counter())

    async def on_message(self, _: AbstractIncomingMessage) -> None:
        self._messages += 1
        if self._messages == EVENTS_PER_BLOCK:
            self._messages = 0
            self.published.set_result(time.perf_counter())

    def next_block(self) -> None:
        loop = asyncio.get_running_loop()
        self.committed, self.published = loop.create_future(), loop.create_future()


async def head_latencies(database_url: str, rabbitmq_url: str, anvil: Anvil, chain_id: int, blocks: int) -> Latencies:
    """The Monitor follows by WebSocket; each block holds EVENTS_PER_BLOCK transfers."""
    emitter = Emitter(anvil)
    token = emitter.deploy(transfer_burst_contract())
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    await connection.execute(INSERT, chain_id, bytes.fromhex(parse_address(token)[2:]))
    latencies, watch = Latencies(), Watch()
    await connection.add_listener("outbox", watch.on_commit)
    socket = anvil.url.replace("http", "ws")
    async with (
        Broker(rabbitmq_url, name="bench", partitions=1) as broker,
        monitor_process(database_url, rabbitmq_url, anvil.url, ws_url=socket),
    ):
        channel = await broker.channel(prefetch=1000)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(CHAIN_EVENTS, "#.Transfer")
        await queue.consume(watch.on_message, no_ack=True)
        for block in range(blocks + WARM_UP_BLOCKS):
            call = word(EVENTS_PER_BLOCK) + word(block * EVENTS_PER_BLOCK)
            await asyncio.to_thread(emitter.send_many, token, [call])
            mined = time.perf_counter()
            async with asyncio.timeout(60):
                committed, published = await watch.committed, await watch.published
            if block >= WARM_UP_BLOCKS:
                latencies.committed.append(1000 * (committed - mined))
                latencies.published.append(1000 * (published - mined))
            watch.next_block()
            await asyncio.sleep(BLOCK_TIME_S)
    await connection.close()
    return latencies
