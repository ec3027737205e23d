"""The Monitor as a process: it publishes what it stores, survives a kill, and stops when asked."""

import asyncio
from collections.abc import Awaitable, Callable

import aio_pika
import httpx
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from devstack.anvil import Anvil
from devstack.emitter import Emitter, echo_contract, event_topic, transfer_burst_contract, word
from devstack.monitor_process import monitor_process
from tradingflow.db.models.chain import ContractAbi
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.chain_messages import ChainEvent, decode_chain_message
from tradingflow.messaging.topology import CHAIN_EVENTS

from .stored import Stored

POLL_S = 0.02


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(POLL_S)


async def test_a_kill_in_the_middle_of_a_backfill_loses_and_doubles_nothing(
    database_url: str, rabbitmq_url: str, anvil: Anvil, emitter: Emitter, stored: Stored
) -> None:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(300):
        emitter.send(token, word(40) + word(40 * block))
    emitter.mine(10)
    await stored.monitor(token, "erc20")

    async def some_but_not_all() -> bool:
        return 0 < len(await stored.events()) < 300 * 40

    async def at_head() -> bool:
        return bool((await stored.cursor()).next_block == emitter.head + 1)

    await stored.slow_down(1.0)  # it is killed before the second batch is stored, however fast the machine is
    async with monitor_process(database_url, rabbitmq_url, anvil.url, finality_blocks=4) as first:
        await until(some_but_not_all)
        await first.kill()
    assert await some_but_not_all()
    await stored.speed_up()
    async with monitor_process(database_url, rabbitmq_url, anvil.url, finality_blocks=4):
        await until(at_head)

    assert [int(event.args["value"]) for event in await stored.events()] == list(range(300 * 40))


async def test_stored_events_are_published_under_their_key_in_chain_order(
    database_url: str, rabbitmq_url: str, anvil: Anvil, emitter: Emitter, stored: Stored
) -> None:
    token = emitter.deploy(transfer_burst_contract())
    await stored.monitor(token, "erc20")
    async with Broker(rabbitmq_url, name="test", partitions=1) as broker:
        channel = await broker.channel(prefetch=100)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(CHAIN_EVENTS, "31337.erc20.*.Transfer")
        async with monitor_process(database_url, rabbitmq_url, anvil.url):
            for block in range(3):
                emitter.send(token, word(50) + word(50 * block))
            received = await _take(queue, 150)

    assert [int(event.args["value"]) for event in received] == list(range(150))
    assert [event.event_id for event in received] == [
        f"31337:{row.block_hash}:{row.log_index}" for row in await stored.events()
    ]


async def test_a_name_too_long_for_a_routing_key_holds_up_nobody(
    database_url: str, rabbitmq_url: str, anvil: Anvil, engine: AsyncEngine, emitter: Emitter, stored: Stored
) -> None:
    name = "P" * 256
    async with engine.begin() as connection:
        abi = [{"type": "event", "name": name, "inputs": [{"name": "a", "type": "uint8"}]}]
        await connection.execute(insert(ContractAbi).values(kind="verbose", entries=abi))
    verbose, token = emitter.deploy(echo_contract(1)), emitter.deploy(transfer_burst_contract())
    await stored.monitor(verbose, "verbose")
    await stored.monitor(token, "erc20")
    async with Broker(rabbitmq_url, name="test", partitions=1) as broker:
        channel = await broker.channel(prefetch=100)
        observer = await channel.declare_queue(exclusive=True)
        await observer.bind(CHAIN_EVENTS, "31337.#")
        async with monitor_process(database_url, rabbitmq_url, anvil.url):
            emitter.emit(verbose, [event_topic(f"{name}(uint8)")], word(7))
            emitter.send(token, word(1) + word(0))
            published = await _take(observer, 2)

    assert [event.name for event in await stored.events()] == [name, "Transfer"]
    assert [(event.name, event.args == {}) for event in published] == [("undecoded", True), ("Transfer", False)]


async def _take(queue: aio_pika.abc.AbstractQueue, count: int) -> list[ChainEvent]:
    taken: list[ChainEvent] = []
    async with asyncio.timeout(60), queue.iterator(no_ack=True) as messages:
        while len(taken) < count:
            event = decode_chain_message((await anext(messages)).body)
            assert isinstance(event, ChainEvent)
            taken.append(event)
    return taken


async def test_ready_once_at_the_head_and_gone_on_sigterm(
    database_url: str, rabbitmq_url: str, anvil: Anvil, stored: Stored
) -> None:
    async with monitor_process(database_url, rabbitmq_url, anvil.url) as monitor:

        async def ready() -> bool:
            try:
                return (await monitor.get("/health/ready")).status_code == 200
            except httpx.TransportError:
                return False

        await until(ready)
        assert (await monitor.get("/health")).json() == {"status": "ok"}
        assert 'monitor_head_lag_blocks{chain_id="31337"} 0.0' in (await monitor.get("/metrics")).text
        assert "Application shutdown complete" in await monitor.terminate()
    assert (await stored.cursor()).halted_reason is None
