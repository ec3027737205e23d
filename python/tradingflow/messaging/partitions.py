"""Consuming the partition queues. One connection of its own; when it is lost, everything taken over it is void.

RabbitMQ gives every message that was not acknowledged to the next active consumer, so a session that ends must be
forgotten whole: `on_lost` is called before anything of the next session arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import AbstractChannel as RawChannel
from aiormq.abc import DeliveredMessage

from tradingflow.core.logging import get_logger
from tradingflow.core.tasks import end_all
from tradingflow.messaging.broker import LOST, stuck_is_lost, to_its_end
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
            self._session.acknowledge(self.partition, self._tag)


class Session:
    """One connection's life: its consumers, what it handed out, and the acknowledgements on their way."""

    def __init__(self, raw: RawChannel, partitions: int) -> None:
        self._raw = raw
        self._tags: list[int] = []
        self._wake = asyncio.Event()
        self._quiet = [asyncio.Event() for _ in range(partitions)]
        self.handed_out = [0] * partitions
        self.held: dict[int, list[DeliveredMessage]] = {}
        """Messages that came while their partition was being given away."""
        self.consumer_tags: dict[int, str] = {}
        self.lost = asyncio.Event()

    def end(self) -> None:
        """Lost: nobody waits for anything of it any more."""
        self.lost.set()
        for quiet in self._quiet:
            quiet.set()

    def hand_out(self, partition: int) -> None:
        self.handed_out[partition] += 1
        self._quiet[partition].clear()

    def acknowledge(self, partition: int, tag: int) -> None:
        self.handed_out[partition] -= 1
        if self.handed_out[partition] == 0:
            self._quiet[partition].set()
        self._tags.append(tag)
        self._wake.set()

    async def quiet(self, partition: int) -> None:
        """Until everything handed out of a partition has been released, or the session is lost."""
        if self.handed_out[partition]:
            await self._quiet[partition].wait()

    async def consume(self, queue: str, receive: Callable[[DeliveredMessage], Coroutine[Any, Any, None]]) -> str:
        """Queue up as a consumer; returns the consumer's tag."""
        consuming = await self._raw.basic_consume(queue, receive)
        if consuming.consumer_tag is None:
            raise RuntimeError(f"the broker gave no consumer tag for {queue}")
        return consuming.consumer_tag

    async def send_acknowledgements(self) -> None:
        """Until the session is lost; acknowledgements of a lost session have no meaning any more."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        tags, self._tags = self._tags, []
        for tag in tags:
            await self._raw.basic_ack(tag, wait=False)

    async def give_away(self, partition: int) -> None:
        """Leave the partition to the next in line; what was held goes back in its order."""
        await self.flush()
        await self._raw.basic_cancel(self.consumer_tags.pop(partition))
        for message in reversed(self.held.pop(partition, [])):
            await self._raw.basic_nack(message.delivery_tag or 0, requeue=True)


Handler = Callable[[Delivery], None]


class PartitionConsumer:
    """Feeds `handle` with deliveries of all partitions this process is the active consumer of.

    `handle` is called in the order of each queue and must not block; `on_lost` voids everything handed out so far,
    `on_left` everything remembered of a partition that is given to another worker.
    """

    def __init__(
        self,
        dsn: str,
        *,
        name: str,
        partitions: int,
        prefetch: int,
        handle: Handler,
        on_lost: Callable[[], None],
        on_left: Callable[[int], None],
        is_mine: Callable[[int], bool],
    ) -> None:
        self._dsn = dsn
        self._name = name
        self._partitions = partitions
        self._prefetch = prefetch
        self._handle = handle
        self._on_lost = on_lost
        self._on_left = on_left
        self._is_mine = is_mine
        self._session: Session | None = None

    @property
    def is_subscribed(self) -> bool:
        return self._session is not None

    @property
    def under_way(self) -> int:
        """Deliveries handed out and not yet released."""
        return sum(self._session.handed_out) if self._session else 0

    async def stand_back(self, partition: int, patience_s: float) -> bool:
        """Give a partition to the next in line and queue up behind it, once nothing of it is under way here.

        False when something was still under way after `patience_s`: then everything is as it was. False, too, when
        the session is lost: everything begins anew.
        """
        session = self._session
        if session is None or partition not in session.consumer_tags:
            return False
        if not await self._hold(session, partition, patience_s):
            return False
        self._on_left(partition)
        try:
            await to_its_end(self._queue_up_again(session, partition))
        except LOST as error:
            log.warning("broker lost while a partition was given away", partition=partition, error=error)
            session.end()
            return False
        return True

    async def _queue_up_again(self, session: Session, partition: int) -> None:
        await session.give_away(partition)
        await self._subscribe(session, partition)

    async def drain(self, patience_s: float) -> bool:
        """Take nothing new and wait until everything under way has ended; says whether it has."""
        session = self._session
        if session is None:
            return True
        partitions = range(self._partitions)
        done = await asyncio.gather(*(self._hold(session, p, patience_s, resume=False) for p in partitions))
        with suppress(*LOST):
            await session.flush()
        return all(done)

    async def _hold(self, session: Session, partition: int, patience_s: float, *, resume: bool = True) -> bool:
        session.held.setdefault(partition, [])
        quiet = True
        try:
            async with asyncio.timeout(patience_s):
                await session.quiet(partition)
        except TimeoutError:
            quiet = False
        if session.lost.is_set():  # what is held comes again in the next session
            return False
        if not quiet and resume:
            for message in session.held.pop(partition):
                self._hand_out(session, partition, message)
        return quiet

    async def run(self) -> None:
        """Consume until cancelled; a broker that is away is waited for."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                with stuck_is_lost():
                    await self._one_session()
                pause_s = FIRST_PAUSE_S
            except LOST as error:
                log.warning("partition consumer interrupted", error=error)
            finally:
                self._session = None
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
        session = Session(await channel.get_underlay_channel(), self._partitions)

        def lost(*_: Any) -> None:
            session.end()

        connection.close_callbacks.add(lost)
        channel.close_callbacks.add(lost)
        # The first in line is the active consumer: queue up for one's own before standing by for others.
        for partition in sorted(range(self._partitions), key=self._is_mine, reverse=True):
            await self._subscribe(session, partition)
        self._session = session
        acknowledging = asyncio.create_task(session.send_acknowledgements())
        losing = asyncio.create_task(session.lost.wait())
        try:
            await asyncio.wait((acknowledging, losing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            session.end()
            await end_all([acknowledging, losing])

    async def _subscribe(self, session: Session, partition: int) -> None:
        async def receive(message: DeliveredMessage) -> None:
            if partition in session.held:
                session.held[partition].append(message)
            else:
                self._hand_out(session, partition, message)

        session.consumer_tags[partition] = await session.consume(partition_queue(partition), receive)

    def _hand_out(self, session: Session, partition: int, message: DeliveredMessage) -> None:
        tag = message.delivery_tag or 0  # from 1 on for everything that is consumed
        session.hand_out(partition)
        message_id = message.header.properties.message_id or ""
        self._handle(Delivery(session, partition, tag, message_id, bytes(message.body)))
