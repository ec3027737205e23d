"""Consuming the partition queues. One connection of its own; when it is lost, everything taken over it is void.

RabbitMQ gives every message that was not acknowledged to the next active consumer, so a session that ends must be
forgotten whole: `on_lost` is called before anything of the next session arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import AMQPError
from aiormq.abc import AbstractChannel as RawChannel
from aiormq.abc import DeliveredMessage

from tradingflow.core.logging import get_logger
from tradingflow.messaging.topology import declare_topology, partition_queue

log = get_logger(__name__)

CONNECT_TIMEOUT_S = 10.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 2.0


class Delivery:
    """One message under way. Each piece of work it led to holds it; the last release acknowledges it."""

    __slots__ = ("_holds", "_session", "_tag", "body", "message_id", "partition")

    def __init__(self, session: Session, partition: int, tag: int, message_id: str, body: bytes) -> None:
        self._session = session
        self._tag = tag
        self._holds = 1
        self.partition = partition
        self.message_id = message_id
        self.body = body

    def hold(self) -> None:
        self._holds += 1

    def release(self) -> None:
        self._holds -= 1
        if self._holds == 0:
            self._session.acknowledge(self._tag)


class Session:
    """One connection's life: its channel and the acknowledgements on their way."""

    def __init__(self, raw: RawChannel) -> None:
        self._raw = raw
        self._tags: list[int] = []
        self._wake = asyncio.Event()
        self.lost = asyncio.Event()

    def acknowledge(self, tag: int) -> None:
        self._tags.append(tag)
        self._wake.set()

    async def send_acknowledgements(self) -> None:
        """Until the session is lost; acknowledgements of a lost session have no meaning any more."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            tags, self._tags = self._tags, []
            for tag in tags:
                await self._raw.basic_ack(tag, wait=False)


Handler = Callable[[Delivery], None]


class PartitionConsumer:
    """Feeds `handle` with deliveries of all partitions this process is the active consumer of.

    `handle` is called in the order of each queue and must not block; `on_lost` voids everything handed out so far.
    """

    def __init__(
        self, dsn: str, *, name: str, partitions: int, prefetch: int, handle: Handler, on_lost: Callable[[], None]
    ) -> None:
        self._dsn = dsn
        self._name = name
        self._partitions = partitions
        self._prefetch = prefetch
        self._handle = handle
        self._on_lost = on_lost
        self._subscribed = False

    @property
    def is_subscribed(self) -> bool:
        return self._subscribed

    async def run(self) -> None:
        """Consume until cancelled; a broker that is away is waited for."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._one_session()
                pause_s = FIRST_PAUSE_S
            except (OSError, AMQPError, TimeoutError, RuntimeError) as error:
                log.warning("partition consumer interrupted", error=error)
            finally:
                self._subscribed = False
                self._on_lost()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _one_session(self) -> None:
        connection = await aio_pika.connect(
            self._dsn, timeout=CONNECT_TIMEOUT_S, client_properties={"connection_name": f"{self._name}.partitions"}
        )
        try:
            channel = await connection.channel(publisher_confirms=False)
            await declare_topology(channel, self._partitions)
            await channel.set_qos(prefetch_count=self._prefetch)
            await self._consume(connection, channel)
        finally:
            await connection.close()

    async def _consume(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        raw = await channel.get_underlay_channel()
        session = Session(raw)

        def lost(*_: Any) -> None:
            session.lost.set()

        connection.close_callbacks.add(lost)
        channel.close_callbacks.add(lost)
        for partition in range(self._partitions):
            await raw.basic_consume(partition_queue(partition), self._receiver(session, partition))
        self._subscribed = True
        acknowledging = asyncio.create_task(session.send_acknowledgements())
        losing = asyncio.create_task(session.lost.wait())
        try:
            await asyncio.wait((acknowledging, losing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            losing.cancel()
            acknowledging.cancel()
            await asyncio.gather(acknowledging, losing, return_exceptions=True)

    def _receiver(self, session: Session, partition: int) -> Callable[[DeliveredMessage], Any]:
        async def receive(message: DeliveredMessage) -> None:
            properties = message.header.properties
            tag = message.delivery_tag or 0  # from 1 on for everything that is consumed
            self._handle(Delivery(session, partition, tag, properties.message_id or "", bytes(message.body)))

        return receive
