"""One robust connection per process; publishing waits for the broker's confirm."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel, AbstractRobustConnection
from aio_pika.exceptions import AMQPError

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.messaging.topology import declare_topology

CONNECT_TIMEOUT_S = 10.0
CONFIRM_TIMEOUT_S = 10.0
# A broker that is back must not wait long for us: cycles have to go on within 10 s.
RECONNECT_INTERVAL_S = 1.0
# What a call raises when the broker is away, goes away meanwhile, or refuses.
LOST = (OSError, AMQPError, TimeoutError, RuntimeError)

Part = TypeVar("Part")


class Broker:
    """The process's connection to RabbitMQ.

    Use it as `async with Broker(dsn, name=…, partitions=…) as broker`. It declares the topology once connected
    and reconnects by itself.
    """

    def __init__(self, dsn: str, *, name: str, partitions: int) -> None:
        self._dsn = dsn
        self._name = name
        self._partitions = partitions
        self._connection: AbstractRobustConnection | None = None
        self._publishing: AbstractChannel | None = None

    async def __aenter__(self) -> Self:
        try:
            self._connection = await aio_pika.connect_robust(
                self._dsn,
                timeout=CONNECT_TIMEOUT_S,
                reconnect_interval=RECONNECT_INTERVAL_S,
                client_properties={"connection_name": self._name},
            )
            self._publishing = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
            await declare_topology(self._publishing, self._partitions)
        except (OSError, AMQPError, TimeoutError) as error:
            await self.__aexit__(None, None, None)
            raise DependencyUnavailable("rabbitmq_unavailable", "RabbitMQ does not answer at RABBITMQ_URL") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    @property
    def is_connected(self) -> bool:
        connection = self._connection
        return connection is not None and connection.connected.is_set() and not connection.is_closed

    async def channel(self, *, prefetch: int) -> AbstractChannel:
        """A fresh channel for consuming, with at most `prefetch` unacknowledged messages per consumer."""
        channel = await _entered(self._connection).channel(publisher_confirms=True, on_return_raises=True)
        await channel.set_qos(prefetch_count=prefetch)
        return channel

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        message_id: str,
        mandatory: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Publish one persistent message and wait for its confirm.

        `mandatory` messages that reach no queue count as failed; observers' topics publish with False. Raises
        DependencyUnavailable when the broker is away, refuses, or does not confirm in time.
        """
        message = aio_pika.Message(
            body,
            message_id=message_id,
            delivery_mode=DeliveryMode.PERSISTENT,
            content_type="application/json",
            headers=dict(headers or {}),
        )
        try:
            with stuck_is_lost():
                target = await _entered(self._publishing).get_exchange(exchange, ensure=False)
                confirmed = await target.publish(message, routing_key, mandatory=mandatory, timeout=CONFIRM_TIMEOUT_S)
        except LOST as error:
            raise DependencyUnavailable(
                "publish_failed", f"RabbitMQ did not confirm a message to {exchange}"
            ) from error
        if confirmed is None:
            raise DependencyUnavailable("publish_failed", f"RabbitMQ did not confirm a message to {exchange}")

    async def publish_all(self, messages: Sequence[tuple[str, str, str, bytes]], *, mandatory: bool = True) -> None:
        """Publish (exchange, routing key, message id, body) in order, confirms awaited together; all or an error."""
        async with asyncio.TaskGroup() as group:
            for exchange, routing_key, message_id, body in messages:
                group.create_task(self.publish(exchange, routing_key, body, message_id=message_id, mandatory=mandatory))


@contextmanager
def stuck_is_lost() -> Iterator[None]:
    """aiormq cancels what is under way on a connection that has been silent for too long. To us that is a lost
    connection: a task nobody cancelled must neither end as if somebody had, nor be taken for one that succeeded."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionResetError("RabbitMQ was silent for too long") from error


async def to_its_end(call: Coroutine[Any, Any, Part]) -> Part:
    """Await a call to the broker; when cancelled, let it end before the cancellation goes on.

    aio_pika loses a cancellation that comes while it opens a channel: whoever stops would wait for ever.
    """
    task = asyncio.ensure_future(call)
    try:
        with stuck_is_lost():
            return await asyncio.shield(task)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait([task], timeout=CONFIRM_TIMEOUT_S)
        for ended in done:
            if not ended.cancelled():
                ended.exception()  # seen, and of no interest any more
        raise


def _entered(part: Part | None) -> Part:
    if part is None:
        raise RuntimeError("use the broker as a context manager")
    return part
