"""Consuming a queue in its order: one message after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import get_logger
from tradingflow.messaging.broker import LOST, Broker, stuck_is_lost, to_its_end
from tradingflow.messaging.topology import DELIVERY_TRIES

log = get_logger(__name__)

PREFETCH = 100
RETRY_S = 1.0
# Longer than PostgreSQL lets anybody wait for a lock; what takes longer hangs and is begun anew.
LONGEST_S = 30.0

Handle = Callable[[AbstractIncomingMessage], Awaitable[None]]
"""Raises DependencyUnavailable to get the message again, as often as it takes."""


async def consume_in_order(broker: Broker, queue: str, handle: Handle) -> None:
    """Hand every message to `handle` until cancelled, in order; each is acknowledged once handled.

    A connection that is lost is waited for: what was not acknowledged comes again. A message that fails
    DELIVERY_TRIES times for a reason of its own is dropped, and its neighbours go on.
    """
    while True:
        try:
            channel = await to_its_end(broker.channel(prefetch=PREFETCH))
            try:
                with stuck_is_lost():
                    await _until_lost(channel, queue, handle)
            except LOST as error:
                log.warning("consumer interrupted", queue=queue, error=error)
            with stuck_is_lost():
                await channel.close()
        except LOST as error:
            log.warning("queue is consumed later", queue=queue, error=error)
        await asyncio.sleep(RETRY_S)


async def _until_lost(channel: AbstractChannel, queue: str, handle: Handle) -> None:
    arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
    closing = (await channel.get_underlay_channel()).closing
    closing.add_done_callback(lambda _: arrived.put_nowait(None))
    await to_its_end((await channel.get_queue(queue, ensure=False)).consume(arrived.put))
    while (message := await arrived.get()) is not None:
        await _handle(message, handle)
        await message.ack()


async def _handle(message: AbstractIncomingMessage, handle: Handle) -> None:
    failures = 0
    while True:
        try:
            async with asyncio.timeout(LONGEST_S):
                await handle(message)
            return
        except (DependencyUnavailable, TimeoutError) as error:
            log.warning("message is handled again", message_id=message.message_id, error=error)
        except Exception:  # whatever is wrong with one message, the others are handled
            failures += 1
            log.exception("message could not be handled", message_id=message.message_id, failures=failures)
            if failures == DELIVERY_TRIES:
                return
        await asyncio.sleep(RETRY_S)
