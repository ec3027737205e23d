"""The control of the chaos run: the same hops without confirms and acknowledgements. It must lose some.

Prints a line once it has made HOPS_BEFORE_DEATH hops: that is when it is killed, with chains under way.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

import aio_pika
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage

QUEUE = "chaos.control"
ENDED = "chaos.control.ended"
HOPS_BEFORE_DEATH = 20


async def main() -> None:
    connection = await aio_pika.connect(os.environ["RABBITMQ_URL"])
    channel = await connection.channel(publisher_confirms=False)
    await channel.set_qos(prefetch_count=200)
    queue = await channel.declare_queue(QUEUE, durable=True)
    await channel.declare_queue(ENDED, durable=True)

    hops = itertools.count(1)

    async def hop(message: AbstractIncomingMessage) -> None:
        if next(hops) == HOPS_BEFORE_DEATH:
            print("under way", flush=True)
        left = int(message.body)
        await asyncio.sleep(0.01)
        target = QUEUE if left else ENDED
        body = str(max(left - 1, 0)).encode()
        await channel.default_exchange.publish(Message(body, delivery_mode=DeliveryMode.PERSISTENT), target)

    await queue.consume(hop, no_ack=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
