"""Who a bearer credential belongs to: an access token of a living session, or an API key."""

from __future__ import annotations

from tradingflow.account_manager.auth.api_keys import API_KEY_PREFIX, principal_of
from tradingflow.account_manager.auth.revocation import RevokedSessions
from tradingflow.core.access_token import Principal, TokenVerifier
from tradingflow.core.clock import Clock
from tradingflow.core.errors import Unauthenticated
from tradingflow.db.engine import SessionFactory


class LocalAuthenticator:
    """Verifies with the signer's own public keys, and refuses tokens of revoked sessions at once."""

    def __init__(self, verifier: TokenVerifier, revoked: RevokedSessions, reads: SessionFactory, clock: Clock) -> None:
        self._verifier = verifier
        self._revoked = revoked
        self._reads = reads
        self._clock = clock

    async def authenticate(self, credential: str) -> Principal:
        if credential.startswith(API_KEY_PREFIX):
            return await self._by_api_key(credential)
        principal = self._verifier.verify(credential)
        if await self._revoked.contains(principal.session_id):
            raise Unauthenticated("session_over", "this session was ended; sign in again")
        return principal

    async def _by_api_key(self, key: str) -> Principal:
        async with self._reads() as session:
            return await principal_of(session, key, self._clock.now())
