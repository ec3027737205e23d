"""Access tokens: Ed25519-signed JWTs (RFC 8037, RFC 9068, RFC 9864). One algorithm, chosen here and never by the token.

The signer lives in the Account Manager alone; everybody else verifies with the public keys of its JWKS document.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OKPKey

from tradingflow.core.clock import Clock
from tradingflow.core.errors import Unauthenticated

# EdDSA over Curve25519 under its fully specified name; the polymorphic "EdDSA" is deprecated by RFC 9864.
ALGORITHM = "Ed25519"
TOKEN_TYPE = "at+jwt"  # noqa: S105 (a media type, RFC 9068)
AUDIENCE = "tradingflow"
# What two machines' clocks may differ by.
LEEWAY_S = 10
MAX_TOKEN_BYTES = 4096


# read: look at what is yours; trade: change it; account: wallets, keys and secrets, never granted to an API key.
ALL_SCOPES = frozenset({"read", "trade", "account"})


@dataclass(frozen=True)
class Principal:
    """Who is calling: the account, the wallet it signed in with, the session the token belongs to, what it may do."""

    user_id: UUID
    wallet: str
    session_id: UUID
    scopes: frozenset[str] = ALL_SCOPES


def _key_from_seed(seed: str) -> OKPKey:
    """An Ed25519 key from a secret of any form: SHA-256 of the seed is the RFC 8032 private key."""
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())
    d = base64.urlsafe_b64encode(private.private_bytes_raw()).rstrip(b"=").decode()
    x = base64.urlsafe_b64encode(private.public_key().public_bytes_raw()).rstrip(b"=").decode()
    kid = hashlib.sha256(x.encode()).hexdigest()[:16]
    return OKPKey.import_key(
        {"kty": "OKP", "crv": "Ed25519", "d": d, "x": x, "kid": kid, "use": "sig", "alg": ALGORITHM}
    )


class TokenSigner:
    """Signs access tokens that live `ttl_s` seconds."""

    def __init__(self, seed: str, issuer: str, ttl_s: int, clock: Clock) -> None:
        self._key = _key_from_seed(seed)
        self._issuer = issuer
        self._clock = clock
        self.ttl_s = ttl_s

    def sign(self, principal: Principal) -> str:
        now = self._clock.now()
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": str(principal.user_id),
            "wallet": principal.wallet,
            "sid": str(principal.session_id),
            "scope": " ".join(sorted(principal.scopes)),
            "jti": str(uuid4()),
            "iat": int(now.timestamp()),
            "exp": int((now + timedelta(seconds=self.ttl_s)).timestamp()),
        }
        header = {"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": self._key.kid}
        return jwt.encode(header, claims, self._key, algorithms=[ALGORITHM])

    def jwks(self) -> dict[str, Any]:
        """The public keys (RFC 7517), served at /.well-known/jwks.json."""
        return {"keys": [self._key.as_dict(private=False)]}


class TokenVerifier:
    """Checks signature, type, issuer, audience and times. Raises Unauthenticated, which never says more than why."""

    def __init__(self, jwks: dict[str, Any], issuer: str, clock: Clock) -> None:
        self._keys = KeySet.import_key_set({"keys": jwks["keys"]})
        self._issuer = issuer
        self._clock = clock

    def verify(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthenticated("invalid_token", "the access token is too long")
        try:
            decoded = jwt.decode(token, self._keys, algorithms=[ALGORITHM])
            self._check(decoded.header, decoded.claims, self._clock.now())
            return _principal(decoded.claims)
        except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unauthenticated("invalid_token", "the access token is not valid; sign in again") from error

    def _check(self, header: dict[str, Any], claims: dict[str, Any], now: datetime) -> None:
        if header.get("typ") != TOKEN_TYPE or claims["iss"] != self._issuer or claims["aud"] != AUDIENCE:
            raise ValueError("wrong type, issuer or audience")
        if int(claims["exp"]) <= now.timestamp():
            raise Unauthenticated("token_expired", "the access token has expired; refresh it")
        if int(claims["iat"]) > now.timestamp() + LEEWAY_S:
            raise ValueError("issued in the future")


def _principal(claims: dict[str, Any]) -> Principal:
    scopes = frozenset(str(claims["scope"]).split())
    if not scopes <= ALL_SCOPES:
        raise ValueError("unknown scope")
    return Principal(UUID(claims["sub"]), str(claims["wallet"]), UUID(claims["sid"]), scopes)
