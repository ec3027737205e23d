"""Access tokens: 0 of these bad ones may pass."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from tradingflow.core.access_token import ALGORITHM, TOKEN_TYPE, Principal, TokenSigner, TokenVerifier
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.errors import Unauthenticated

START = datetime(2026, 1, 1, tzinfo=UTC)
PRINCIPAL = Principal(UUID(int=1), "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", UUID(int=2))


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START)


@pytest.fixture
def signer(clock: SimulatedClock) -> TokenSigner:
    return TokenSigner("seed", "tradingflow", 900, clock)


@pytest.fixture
def verifier(signer: TokenSigner, clock: SimulatedClock) -> TokenVerifier:
    return TokenVerifier(signer.jwks(), "tradingflow", clock)


def _segment(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_signed_token_names_its_principal(signer: TokenSigner, verifier: TokenVerifier) -> None:
    assert verifier.verify(signer.sign(PRINCIPAL)) == PRINCIPAL


def test_published_keys_hold_no_private_part(signer: TokenSigner) -> None:
    assert all("d" not in key for key in signer.jwks()["keys"])


def test_a_token_dies_after_its_time_to_live(
    signer: TokenSigner, verifier: TokenVerifier, clock: SimulatedClock
) -> None:
    token = signer.sign(PRINCIPAL)
    clock.advance_to(START + timedelta(seconds=900))
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.verify(token)


def test_a_token_of_another_issuer_is_refused(verifier: TokenVerifier, clock: SimulatedClock) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(TokenSigner("seed", "elsewhere", 900, clock).sign(PRINCIPAL))


def test_a_token_signed_with_another_key_is_refused(verifier: TokenVerifier, clock: SimulatedClock) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(TokenSigner("other seed", "tradingflow", 900, clock).sign(PRINCIPAL))


def test_algorithm_none_is_refused(signer: TokenSigner, verifier: TokenVerifier) -> None:
    payload = signer.sign(PRINCIPAL).split(".")[1]
    with pytest.raises(Unauthenticated):
        verifier.verify(f"{_segment({'alg': 'none', 'typ': TOKEN_TYPE})}.{payload}.")


def test_the_public_key_used_as_an_hmac_secret_is_refused(signer: TokenSigner, verifier: TokenVerifier) -> None:
    public = signer.jwks()["keys"][0]
    payload = json.loads(base64.urlsafe_b64decode(signer.sign(PRINCIPAL).split(".")[1] + "=="))
    secret = OctKey.import_key(public["x"] + "0" * 16)
    forged = jwt.encode({"alg": "HS256", "typ": TOKEN_TYPE, "kid": public["kid"]}, payload, secret)
    with pytest.raises(Unauthenticated):
        verifier.verify(forged)


@pytest.mark.parametrize(
    "change",
    [
        {"aud": "another"},
        {"aud": None},
        {"iss": None},
        {"sub": "not a uuid"},
        {"sub": None},
        {"sid": 7},
        {"exp": None},
        {"exp": "soon"},
        {"iat": int((START + timedelta(hours=1)).timestamp())},
    ],
    ids=str,
)
def test_a_well_signed_token_with_wrong_claims_is_refused(
    signer: TokenSigner, verifier: TokenVerifier, change: dict[str, object]
) -> None:
    key: OKPKey = signer._key
    payload = json.loads(base64.urlsafe_b64decode(signer.sign(PRINCIPAL).split(".")[1] + "=="))
    claims = {k: v for k, v in (payload | change).items() if v is not None}
    token = jwt.encode({"alg": ALGORITHM, "typ": TOKEN_TYPE, "kid": key.kid}, claims, key, algorithms=[ALGORITHM])
    with pytest.raises(Unauthenticated):
        verifier.verify(token)


def test_a_token_of_another_type_is_refused(signer: TokenSigner, verifier: TokenVerifier) -> None:
    key: OKPKey = signer._key
    payload = json.loads(base64.urlsafe_b64decode(signer.sign(PRINCIPAL).split(".")[1] + "=="))
    token = jwt.encode({"alg": ALGORITHM, "typ": "JWT", "kid": key.kid}, payload, key, algorithms=[ALGORITHM])
    with pytest.raises(Unauthenticated):
        verifier.verify(token)


@pytest.mark.parametrize("garbage", ["", ".", "..", "a.b", "a.b.c", "é.é.é", "x" * 5000, "a.b.c.d.e", "\x00.\x00.\x00"])
def test_garbage_is_refused_and_never_breaks(verifier: TokenVerifier, garbage: str) -> None:
    with pytest.raises(Unauthenticated):
        verifier.verify(garbage)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_one_changed_character_anywhere_is_refused(signer: TokenSigner, verifier: TokenVerifier, part: int) -> None:
    parts = signer.sign(PRINCIPAL).split(".")
    middle = len(parts[part]) // 2
    swapped = "A" if parts[part][middle] != "A" else "B"
    parts[part] = parts[part][:middle] + swapped + parts[part][middle + 1 :]
    with pytest.raises(Unauthenticated):
        verifier.verify(".".join(parts))
