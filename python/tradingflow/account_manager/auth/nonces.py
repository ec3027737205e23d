"""Sign-in nonces: handed out for one address, chain and purpose, taken once."""

from __future__ import annotations

import secrets

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tradingflow.account_manager.auth.siwe import Proof
from tradingflow.core.errors import DependencyUnavailable, Unauthenticated

NONCE_BYTES = 16


class NonceStore:
    """Lives in Redis; `ttl_s` bounds how long a signed message can wait to be posted."""

    def __init__(self, redis: Redis, ttl_s: int) -> None:
        self._redis = redis
        self._ttl_s = ttl_s

    async def issue(self, proof: Proof) -> str:
        nonce = secrets.token_hex(NONCE_BYTES)
        try:
            await self._redis.set(_key(nonce), _holder(proof), ex=self._ttl_s)
        except RedisError as error:
            raise _away() from error
        return nonce

    async def take(self, nonce: str, proof: Proof) -> None:
        """Atomic: of any number of takers one wins. Raises Unauthenticated for the others."""
        try:
            holder: bytes | None = await self._redis.getdel(_key(nonce))  # type: ignore[assignment]
        except RedisError as error:
            raise _away() from error
        if holder is None or holder.decode() != _holder(proof):
            raise Unauthenticated(
                "invalid_nonce", "the nonce is unknown, used, expired or for another wallet; ask for a new one"
            )


def _key(nonce: str) -> str:
    return f"siwe:nonce:{nonce}"


def _holder(proof: Proof) -> str:
    return f"{proof.address}:{proof.chain_id}:{proof.purpose}"


def _away() -> DependencyUnavailable:
    return DependencyUnavailable("redis_unavailable", "Redis, which keeps sign-in nonces, does not answer")
