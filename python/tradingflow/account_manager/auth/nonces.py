"""Sign-in nonces: handed out for one address on one chain, taken once."""

from __future__ import annotations

import secrets

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tradingflow.core.errors import DependencyUnavailable, Unauthenticated

NONCE_BYTES = 16


class NonceStore:
    """Lives in Redis; `ttl_s` bounds how long a signed message can wait to be posted."""

    def __init__(self, redis: Redis, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s

    async def issue(self, address: str, chain_id: int) -> str:
        nonce = secrets.token_hex(NONCE_BYTES)
        try:
            await self._redis.set(_key(nonce), _holder(address, chain_id), ex=self._ttl_s)
        except RedisError as error:
            raise _away() from error
        return nonce

    async def take(self, nonce: str, address: str, chain_id: int) -> None:
        """Atomic: of any number of takers one wins. Raises Unauthenticated for the others."""
        try:
            holder: bytes | None = await self._redis.getdel(_key(nonce))  # type: ignore[assignment]
        except RedisError as error:
            raise _away() from error
        if holder is None or holder.decode() != _holder(address, chain_id):
            raise Unauthenticated(
                "invalid_nonce", "the nonce is unknown, used, expired or for another wallet; ask for a new one"
            )


def _key(nonce: str) -> str:
    return f"siwe:nonce:{nonce}"


def _holder(address: str, chain_id: int) -> str:
    return f"{address}:{chain_id}"


def _away() -> DependencyUnavailable:
    return DependencyUnavailable("redis_unavailable", "Redis, which keeps sign-in nonces, does not answer")
