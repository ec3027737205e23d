"""Who a bearer credential belongs to: an access token of a living session, or an API key."""

from __future__ import annotations

import base64
from collections import OrderedDict

import msgspec

from tradingflow.account_manager.auth.api_keys import API_KEY_PREFIX, principal_of
from tradingflow.account_manager.rate_limits import RateLimits
from tradingflow.core.access_token import Principal, TokenVerifier
from tradingflow.core.clock import Clock
from tradingflow.core.errors import Unauthenticated
from tradingflow.db.engine import SessionFactory
from tradingflow.db.revocation import RevokedSessions

# A verified signature stays verified: checking Ed25519 again for every request is most of a small request's cost.
REMEMBERED_TOKENS = 10_000


class LocalAuthenticator:
    """Verifies with the signer's own public keys, and refuses tokens of revoked sessions at once."""

    def __init__(
        self,
        verifier: TokenVerifier,
        revoked: RevokedSessions,
        reads: SessionFactory,
        clock: Clock,
        limits: RateLimits,
    ) -> None:
        self._tokens = _VerifiedTokens(verifier, clock)
        self._revoked = revoked
        self._reads = reads
        self._clock = clock
        self._limits = limits

    async def authenticate(self, credential: str) -> Principal:
        principal = await self._identify(credential)
        self._limits.count_request(str(principal.user_id))
        return principal

    async def _identify(self, credential: str) -> Principal:
        if credential.startswith(API_KEY_PREFIX):
            async with self._reads() as session:
                return await principal_of(session, credential, self._clock.now())
        principal = self._tokens.verify(credential)
        if await self._revoked.contains(principal.session_id):
            raise Unauthenticated("session_over", "this session was ended; sign in again")
        return principal


class _Expiry(msgspec.Struct):
    exp: int


class _VerifiedTokens:
    """The verifier with a memory of whole tokens; only their expiry is looked at again."""

    def __init__(self, verifier: TokenVerifier, clock: Clock) -> None:
        self._verifier = verifier
        self._clock = clock
        self._known: OrderedDict[str, tuple[Principal, int]] = OrderedDict()

    def verify(self, token: str) -> Principal:
        known = self._known.get(token)
        if known is not None and known[1] > self._clock.now().timestamp():
            return known[0]
        principal = self._verifier.verify(token)
        self._known[token] = principal, _expiry(token)
        if len(self._known) > REMEMBERED_TOKENS:
            self._known.popitem(last=False)
        return principal


def _expiry(verified_token: str) -> int:
    payload = verified_token.split(".")[1]
    claims = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    return msgspec.json.decode(claims, type=_Expiry).exp
