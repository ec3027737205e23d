"""What the worker is measured against, on the same servers: raw aio-pika hops and Celery chains."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time

import aio_pika
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage
from celery import Celery, chain
from celery.result import AsyncResult

HOPS = 10
CELERY_OPTIONS = ("-P", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR")
PREFETCH = 200

celery_app = Celery("bench", broker=os.environ.get("RABBITMQ_URL"), backend=os.environ.get("REDIS_URL"))
celery_app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    worker_prefetch_multiplier=64,
    task_acks_late=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@celery_app.task(name="bench.noop")
def noop(value: int = 0) -> int:
    return value


class RawHops:
    """Durable one-message hops: consume, publish the next with its confirm, acknowledge."""

    def __init__(self, url: str, queue_type: str) -> None:
        self._url = url
        self._queue_type = queue_type
        self._ended = 0
        self._done = asyncio.Event()

    async def rate(self, chains: int) -> float:
        """Hops a second with all chains in flight."""
        async with await aio_pika.connect(self._url) as connection:
            await self._prepare(connection)
            started = time.perf_counter()
            self._expected, self._ended = chains, 0
            self._done.clear()
            await asyncio.gather(*(self._publish(HOPS - 1) for _ in range(chains)))
            await self._done.wait()
            return chains * HOPS / (time.perf_counter() - started)

    async def lone_ms(self, rounds: int) -> float:
        """p50 of one chain alone, in milliseconds."""
        times = []
        async with await aio_pika.connect(self._url) as connection:
            await self._prepare(connection)
            for _ in range(rounds):
                self._expected, self._ended = 1, 0
                self._done.clear()
                started = time.perf_counter()
                await self._publish(HOPS - 1)
                await self._done.wait()
                times.append((time.perf_counter() - started) * 1000)
        return statistics.median(times)

    async def _prepare(self, connection: aio_pika.abc.AbstractConnection) -> None:
        self._name = f"bench.raw.{self._queue_type}"
        self._out = await connection.channel(publisher_confirms=True)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.declare_queue(self._name, durable=True, arguments={"x-queue-type": self._queue_type})
        await queue.consume(self._hop)

    async def _publish(self, left: int) -> None:
        message = Message(str(left).encode(), delivery_mode=DeliveryMode.PERSISTENT)
        await self._out.default_exchange.publish(message, self._name)

    async def _hop(self, message: AbstractIncomingMessage) -> None:
        left = int(message.body)
        if left:
            await self._publish(left - 1)
        await message.ack()
        if not left:
            self._ended += 1
            if self._ended == self._expected:
                self._done.set()


def celery_chain_rate(environment: dict[str, str], chains: int) -> float:
    """Tasks a second of `chains` Celery chains of HOPS no-op tasks, one worker process."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "bench.worker_baselines:celery_app", "worker", *CELERY_OPTIONS],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        celery_app.conf.update(broker_url=environment["RABBITMQ_URL"], result_backend=environment["REDIS_URL"])
        _run_chains(1)
        started = time.perf_counter()
        _run_chains(chains)
        return chains * HOPS / (time.perf_counter() - started)
    finally:
        worker.terminate()
        worker.wait()


def _run_chains(count: int) -> None:
    results: list[AsyncResult[int]] = [chain(*(noop.si(1) for _ in range(HOPS))).apply_async() for _ in range(count)]
    for result in results:
        result.get(timeout=120)
