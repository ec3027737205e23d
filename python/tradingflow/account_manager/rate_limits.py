"""How often a caller may ask.

Sign-in, deployments and messages asked for are counted in Redis, in sliding windows, by all processes together.
Ordinary requests are counted by each process for itself, since asking Redis would cost more than many of them do.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tradingflow.core.config import AccountManagerSettings
from tradingflow.core.errors import TooManyRequests
from tradingflow.core.logging import get_logger

log = get_logger(__name__)

# Messages to an address that nobody has proved to be theirs.
CONFIRMATION_LIMIT = "5/hour"
# Notices that somebody asks for only to see one come.
TEST_NOTICE_LIMIT = "10/minute"


@dataclass(frozen=True)
class Rule:
    """`name` says in the error what there was too much of."""

    name: str
    item: RateLimitItem


class RateLimits:
    """Raises ValueError for a limit that is not written like `60/minute`."""

    def __init__(self, settings: AccountManagerSettings, redis: Redis) -> None:
        pool: Any = redis.connection_pool
        storage = RedisStorage(
            f"async+{settings.redis_dsn}", implementation="redispy", key_prefix="rate", connection_pool=pool
        )
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self.sign_in = Rule("sign-in attempts", parse(settings.sign_in_limit))
        self.deploy = Rule("vault deployments", parse(settings.deploy_limit))
        self.confirmation = Rule("confirmation messages", parse(CONFIRMATION_LIMIT))
        self.test_notice = Rule("test notices", parse(TEST_NOTICE_LIMIT))
        self.request = Rule("requests", parse(settings.request_limit))
        self._counts: Counter[str] = Counter()
        self._window_began = time.monotonic()

    def count_request(self, caller: str) -> None:
        """Count one ordinary request. Raises TooManyRequests."""
        now = time.monotonic()
        period_s = self.request.item.get_expiry()
        if now - self._window_began > period_s:
            self._window_began = now
            self._counts.clear()
        self._counts[caller] += 1
        if self._counts[caller] > self.request.item.amount:
            raise _too_many(self.request, period_s - (now - self._window_began))

    async def count(self, rule: Rule, caller: str) -> None:
        """Count one use. Raises TooManyRequests, with the seconds to wait, once the window is full.

        A Redis that is away lets the caller pass: what must not happen without Redis (signing in) fails by itself.
        """
        try:
            if await self._limiter.hit(rule.item, rule.name, caller):
                return
            window = await self._limiter.get_window_stats(rule.item, rule.name, caller)
        except (RedisError, OSError) as error:
            log.warning("rate limit not counted", rule=rule.name, error=error)
            return
        raise _too_many(rule, window.reset_time - time.time())


def _too_many(rule: Rule, wait_s: float) -> TooManyRequests:
    return TooManyRequests(
        "too_many_requests", f"at most {rule.item} {rule.name} are allowed", max(1, math.ceil(wait_s))
    )
