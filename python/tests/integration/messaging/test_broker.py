"""Publishing means confirmed, and unroutable is an error, never silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractIncomingMessage

from tests.integration.messaging.gate import Gate
from tradingflow.core.errors import DependencyUnavailable
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.topology import CYCLES, CYCLES_DEAD, DELIVERY_TRIES, SIGNALS, partition_queue


@pytest.fixture
async def broker(rabbitmq_url: str) -> AsyncIterator[Broker]:
    async with Broker(rabbitmq_url, name="test", partitions=2) as broker:
        yield broker


async def _consume(broker: Broker, queue_name: str) -> asyncio.Queue[AbstractIncomingMessage]:
    arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    channel = await broker.channel(prefetch=1)
    await (await channel.get_queue(queue_name, ensure=False)).consume(arrived.put)
    return arrived


async def test_a_published_message_is_durable_and_in_its_queue(broker: Broker) -> None:
    await broker.publish(CYCLES, partition_queue(1), b"{}", message_id="m1")
    arrived = await _consume(broker, partition_queue(1))
    async with asyncio.timeout(10):
        message = await arrived.get()
    assert message.message_id == "m1"
    assert message.delivery_mode == DeliveryMode.PERSISTENT


async def test_a_message_no_queue_takes_is_an_error(broker: Broker) -> None:
    with pytest.raises(DependencyUnavailable):
        await broker.publish(CYCLES, partition_queue(99), b"{}", message_id="m1")


async def test_an_observer_message_without_observers_is_fine(broker: Broker) -> None:
    await broker.publish(SIGNALS, "flow.a", b"{}", message_id="m1", mandatory=False)


async def test_a_poison_message_ends_among_the_dead_letters_after_its_tries(broker: Broker) -> None:
    await broker.publish(CYCLES, partition_queue(0), b"poison", message_id="bad")
    arrived = await _consume(broker, partition_queue(0))
    dead_letters = await _consume(broker, CYCLES_DEAD)
    async with asyncio.timeout(20):
        for _ in range(DELIVERY_TRIES):
            await (await arrived.get()).nack(requeue=True)
        dead = await dead_letters.get()
    assert dead.message_id == "bad"
    assert arrived.empty()


async def test_what_a_silent_connection_never_confirmed_is_no_success(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradingflow.messaging.broker.CONFIRM_TIMEOUT_S", 60.0)
    async with (
        Gate(rabbitmq_url).serving() as gate,
        Broker(gate.url + "?heartbeat=1", name="test", partitions=2) as broker,
    ):
        gate.block()
        with pytest.raises(ExceptionGroup) as caught:
            await broker.publish_all([(CYCLES, partition_queue(0), "m1", b"{}")])
        gate.cut()
    assert caught.group_contains(DependencyUnavailable)


async def test_a_broker_that_is_away_says_so() -> None:
    with pytest.raises(DependencyUnavailable, match="RabbitMQ does not answer"):
        async with Broker("amqp://nobody:x@127.0.0.1:1/none", name="test", partitions=1):
            pass
