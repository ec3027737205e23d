"""A partition consumer whose broker is lost at the worst moment begins anew."""

from __future__ import annotations

import asyncio

from tests.integration.messaging.gate import Gate
from tradingflow.core.tasks import running
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.partitions import Delivery, PartitionConsumer
from tradingflow.messaging.topology import CYCLES, partition_queue

WITHIN_S = 60.0


class Watched:
    """A consumer of one partition, and what it tells."""

    def __init__(self, url: str) -> None:
        self.lost = asyncio.Event()
        self.left = asyncio.Event()
        self.deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
        self.consumer = PartitionConsumer(
            url,
            name="test",
            partitions=1,
            prefetch=10,
            handle=self.deliveries.put_nowait,
            on_lost=self.lost.set,
            on_left=lambda _: self.left.set(),
            is_mine=lambda _: True,
        )


async def send(url: str, message_id: str) -> None:
    async with Broker(url, name="sender", partitions=1) as broker:
        await broker.publish(CYCLES, partition_queue(0), b"{}", message_id=message_id)


async def test_a_broker_lost_while_a_partition_is_given_away_is_a_broker_lost(rabbitmq_url: str) -> None:
    async with Gate(rabbitmq_url).serving() as gate:
        watched = Watched(gate.url)
        async with running(watched.consumer.run()), asyncio.timeout(WITHIN_S):
            await send(rabbitmq_url, "1")
            (await watched.deliveries.get()).release()
            gate.block()
            standing_back = asyncio.create_task(watched.consumer.stand_back(0, WITHIN_S))
            await watched.left.wait()
            await asyncio.sleep(0)
            gate.cut()
            assert await standing_back is False
            await watched.lost.wait()
            await send(rabbitmq_url, "2")
            while (delivery := await watched.deliveries.get()).message_id != "2":
                delivery.release()


async def test_what_a_lost_session_held_back_comes_in_the_next_only(rabbitmq_url: str) -> None:
    async with Gate(rabbitmq_url).serving() as gate:
        watched = Watched(gate.url)
        async with running(watched.consumer.run()), asyncio.timeout(WITHIN_S):
            await send(rabbitmq_url, "1")
            under_way = await watched.deliveries.get()
            standing_back = asyncio.create_task(watched.consumer.stand_back(0, WITHIN_S))
            await asyncio.sleep(0)
            await send(rabbitmq_url, "2")
            gate.cut()
            assert await standing_back is False
            under_way.release()
            assert [(await watched.deliveries.get()).message_id for _ in range(2)] == ["1", "2"]
            assert watched.deliveries.empty()
            assert not watched.left.is_set()


async def test_a_connection_that_falls_silent_while_it_is_set_up_is_left_for_a_new_one(rabbitmq_url: str) -> None:
    async with Gate(rabbitmq_url).serving() as gate:
        gate.block_at(partition_queue(0).encode())
        watched = Watched(gate.url + "?heartbeat=1")
        async with running(watched.consumer.run()), asyncio.timeout(WITHIN_S):
            for _ in range(2):
                await gate.came.get()
            gate.cut()
            await send(rabbitmq_url, "1")
            assert (await watched.deliveries.get()).message_id == "1"
