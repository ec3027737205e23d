"""How full the queues are, without touching what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.messaging.topology import CYCLES_DEAD, FLOW_TRIGGERS, TRADE_REQUESTS, partition_queue

CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class QueueDepth:
    """`waiting` counts messages ready for delivery, not those a consumer holds."""

    name: str
    waiting: int
    consumers: int


def queue_names(partitions: int) -> list[str]:
    """The durable queues of the platform."""
    return [
        TRADE_REQUESTS,
        CYCLES_DEAD,
        FLOW_TRIGGERS,
        *(partition_queue(partition) for partition in range(partitions)),
    ]


async def queue_depths(dsn: str, names: Iterable[str]) -> dict[str, QueueDepth | None]:
    """The depth of each queue, None for one that does not exist. Raises DependencyUnavailable."""
    try:
        connection = await aio_pika.connect(dsn, timeout=CONNECT_TIMEOUT_S)
        async with connection:
            return {name: await _depth(connection, name) for name in names}
    except (OSError, AMQPError, TimeoutError) as error:
        raise DependencyUnavailable("rabbitmq_unavailable", "RabbitMQ does not answer at RABBITMQ_URL") from error


async def _depth(connection: AbstractConnection, name: str) -> QueueDepth | None:
    # A channel of its own: asking for a queue that is missing closes the channel.
    channel = await connection.channel()
    try:
        queue = await channel.declare_queue(name, passive=True)
    except ChannelNotFoundEntity:
        return None
    result = queue.declaration_result
    await channel.close()
    return QueueDepth(name, result.message_count or 0, result.consumer_count or 0)
