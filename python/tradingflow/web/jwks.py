"""Verifying access tokens away from the Account Manager, with its published keys."""

from __future__ import annotations

import asyncio
import time

import httpx

from tradingflow.core.access_token import Principal, TokenVerifier
from tradingflow.core.clock import Clock
from tradingflow.core.errors import DependencyUnavailable, Unauthenticated
from tradingflow.db.revocation import RevokedSessions

# Keys are asked for again after this long, and when a token does not verify. Once there are some, no asking follows
# another, whatever came of it, sooner than after RETRY_S.
KEY_AGE_S = 300.0
RETRY_S = 10.0
TIMEOUT_S = 5.0


class JwksAuthenticator:
    """Authenticates bearer tokens against the JWKS document at `url`, which is fetched when first needed.

    Tokens of sessions that have ended are refused as soon as the database tells. Once keys were seen, an Account
    Manager that is away does not sign anybody out: the old keys go on serving, also while it is being asked.
    """

    def __init__(
        self, url: str, issuer: str, clock: Clock, client: httpx.AsyncClient, revoked: RevokedSessions
    ) -> None:
        self._url = url
        self._issuer = issuer
        self._clock = clock
        self._client = client
        self._revoked = revoked
        self._verifier: TokenVerifier | None = None
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def authenticate(self, credential: str) -> Principal:
        principal = await self._verify(credential)
        if await self._revoked.contains(principal.session_id):
            raise Unauthenticated("session_over", "this session was ended; sign in again")
        return principal

    async def _verify(self, credential: str) -> Principal:
        verifier = await self._keys()
        try:
            return verifier.verify(credential)
        except Unauthenticated:
            rotated = await self._latest_keys()
            if rotated is verifier:
                raise
            return rotated.verify(credential)

    async def check(self) -> None:
        """For readiness: the keys are known, or can be had."""
        await self._keys()

    async def _keys(self) -> TokenVerifier:
        """Keys that most likely serve; nobody waits here for what another is asking."""
        if self._verifier is not None:
            young = time.monotonic() - self._fetched_at <= KEY_AGE_S
            if young or self._lock.locked():
                return self._verifier
        return await self._latest_keys()

    async def _latest_keys(self) -> TokenVerifier:
        """Keys as they were when last asked for, which is done now unless it was tried within RETRY_S."""
        async with self._lock:
            if self._verifier is None or time.monotonic() - self._tried_at > RETRY_S:
                try:
                    self._verifier = await self._fetch()
                finally:
                    self._tried_at = time.monotonic()
            return self._verifier

    async def _fetch(self) -> TokenVerifier:
        try:
            answer = await self._client.get(self._url, timeout=TIMEOUT_S)
            answer.raise_for_status()
            verifier = TokenVerifier(answer.json(), self._issuer, self._clock)
        except (httpx.HTTPError, ValueError, KeyError) as error:
            if self._verifier is None:
                raise DependencyUnavailable(
                    "keys_unavailable", "the Account Manager's public keys cannot be read"
                ) from error
            return self._verifier
        self._fetched_at = time.monotonic()
        return verifier
