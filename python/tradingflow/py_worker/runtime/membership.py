"""Who is there, and who should have which partition. Redis only balances: RabbitMQ decides who really has it.

Workers beat into a sorted set. Rendezvous hashing gives every partition the same owner on every worker, and moves few
partitions beyond a lost worker's when it is gone. When the set changes, workers stand back from what is not theirs,
so the owner moves to the head of each line. With Redis away or flushed, everything stays where it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tradingflow.core.errors import DependencyUnavailable
from tradingflow.core.logging import get_logger
from tradingflow.messaging.partitions import PartitionConsumer

log = get_logger(__name__)

WORKERS_KEY = "tradingflow:workers"
ABOUT_KEY = "tradingflow:worker:"
BEAT_S = 1.0
# Generous, since take-over after a death does not wait for it: a starved worker must not look gone and come back.
GONE_AFTER_S = 10.0
# A worker that starts or leaves is seen by all within a beat; standing back before that would be done twice.
SETTLE_BEATS = 2
PATIENCE_S = 3.0
RETRY_AFTER_BEATS = 10


class Membership:
    """This worker's view of the live workers, itself included."""

    def __init__(
        self, redis: Redis, worker_id: str, partitions: int, about: Callable[[], Mapping[str, Any]] = dict
    ) -> None:
        self._partitions = partitions
        self._redis = redis
        self._about = about
        self._id = worker_id
        self.workers: tuple[str, ...] = (worker_id,)

    def owns(self, partition: int) -> bool:
        return owners(self._partitions, self.workers)[partition] == self._id

    async def join(self) -> None:
        """Beat once. Never raises: a worker without Redis works, alone in its own view."""
        try:
            seconds, microseconds = await self._redis.time()  # one clock for all
            now = seconds + microseconds / 1e6
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zadd(WORKERS_KEY, {self._id: now})
                about = {**self._about(), "beat_at": now, "partitions": self._owned()}
                pipe.set(ABOUT_KEY + self._id, json.dumps(about), ex=int(GONE_AFTER_S))
                pipe.zremrangebyscore(WORKERS_KEY, "-inf", now - GONE_AFTER_S)
                pipe.zrange(WORKERS_KEY, 0, -1)
                found = (await pipe.execute())[-1]
        except (RedisError, OSError) as error:
            log.warning("workers are not counted", error=error)
            return
        self.workers = tuple(sorted(name.decode() for name in found))

    async def registry(self) -> dict[str, dict[str, Any]]:
        """What each live worker last said of itself, by id. Raises DependencyUnavailable when Redis is away."""
        try:
            members: Any = await self._redis.zrange(WORKERS_KEY, 0, -1)
            names = [name.decode() for name in members]
            said = await self._redis.mget([ABOUT_KEY + name for name in names]) if names else []
        except (RedisError, OSError) as error:
            raise DependencyUnavailable("redis_unavailable", "Redis does not answer at REDIS_URL") from error
        return {name: json.loads(text) for name, text in zip(names, said, strict=True) if text is not None}

    def _owned(self) -> int:
        return owners(self._partitions, self.workers).count(self._id)

    async def leave(self) -> None:
        try:
            await self._redis.zrem(WORKERS_KEY, self._id)
            await self._redis.delete(ABOUT_KEY + self._id)
        except (RedisError, OSError) as error:
            log.warning("worker could not sign off; it is missed soon", error=error)


@lru_cache(maxsize=64)
def owners(partitions: int, workers: tuple[str, ...]) -> tuple[str, ...]:
    """The owner of each partition: rendezvous (highest random weight) hashing, with no worker above its even share.

    The bound matters: without it two workers share 16 partitions 5 to 11 as readily as 8 to 8.
    """
    room = dict.fromkeys(workers, -(-partitions // len(workers)))
    found = []
    for partition in range(partitions):
        chosen = max((w for w in workers if room[w]), key=lambda worker: _weight(worker, partition))
        room[chosen] -= 1
        found.append(chosen)
    return tuple(found)


def _weight(worker: str, partition: int) -> bytes:
    return hashlib.blake2b(f"{worker}/{partition}".encode()).digest()


class Balancer:
    """Stands back from partitions that belong to others, each time the set of workers has changed."""

    def __init__(self, membership: Membership, consumer: PartitionConsumer, partitions: int) -> None:
        self._membership = membership
        self._consumer = consumer
        self._partitions = partitions

    async def run(self) -> None:
        """Beat and balance until cancelled."""
        balanced, seen, steady, stuck_beats = self._membership.workers, self._membership.workers, 0, 0
        while True:
            await asyncio.sleep(BEAT_S)
            await self._membership.join()
            steady = steady + 1 if self._membership.workers == seen else 0
            seen = self._membership.workers
            stuck_beats = max(stuck_beats - 1, 0)
            if steady >= SETTLE_BEATS and seen != balanced and not stuck_beats:
                if await self.balance():
                    balanced = seen
                else:
                    stuck_beats = RETRY_AFTER_BEATS

    async def balance(self) -> bool:
        """Whether every partition of somebody else's has been left to the line."""
        others = [p for p in range(self._partitions) if not self._membership.owns(p)]
        return all(await asyncio.gather(*(self._consumer.stand_back(p, PATIENCE_S) for p in others)))
