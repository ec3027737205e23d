"""The Account Manager's keys at a service that only verifies: asked for seldom, and waited for by nobody in vain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import httpx
import pytest

from tradingflow.core.access_token import Principal, TokenSigner
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.errors import Unauthenticated
from tradingflow.db.revocation import RevokedSessions
from tradingflow.web.jwks import KEY_AGE_S, RETRY_S, JwksAuthenticator

PRINCIPAL = Principal(UUID(int=1), "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", UUID(int=2))
CLOCK = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
PATIENCE_S = 30.0


class NothingRevoked:
    async def contains(self, _: UUID) -> bool:
        return False


class AccountManager:
    """Answers once `open` is set."""

    def __init__(self) -> None:
        self.signer = TokenSigner("first", "tradingflow", 900, CLOCK)
        self.away = False
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()
        self.reached = asyncio.Event()

    async def answer(self, _: httpx.Request) -> httpx.Response:
        self.asked += 1
        self.reached.set()
        await self.open.wait()
        if self.away:
            raise httpx.ConnectTimeout("away")
        return httpx.Response(200, json=self.signer.jwks())

    def hang(self) -> None:
        self.open.clear()
        self.reached.clear()

    async def is_asked(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.reached.wait()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic time, in its only element."""
    now = [1_000.0]
    monkeypatch.setattr("tradingflow.web.jwks.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
async def manager() -> AccountManager:
    return AccountManager()


@pytest.fixture
async def authenticator(manager: AccountManager) -> AsyncIterator[JwksAuthenticator]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(manager.answer)) as client:
        revoked = cast("RevokedSessions", NothingRevoked())
        yield JwksAuthenticator("http://accounts/jwks", "tradingflow", CLOCK, client, revoked)


async def refused(authenticator: JwksAuthenticator) -> None:
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("garbage")


async def test_an_account_manager_that_is_away_is_asked_once_in_a_while(
    manager: AccountManager, authenticator: JwksAuthenticator, now: list[float]
) -> None:
    token = manager.signer.sign(PRINCIPAL)
    assert await authenticator.authenticate(token) == PRINCIPAL
    manager.away = True
    now[0] += KEY_AGE_S + 1
    for times in (2, 3):
        for _ in range(5):
            await refused(authenticator)
            assert await authenticator.authenticate(token) == PRINCIPAL
        assert manager.asked == times
        now[0] += RETRY_S + 1


@pytest.mark.parametrize("age_s", [RETRY_S + 1, KEY_AGE_S + 1])
async def test_a_valid_token_does_not_wait_for_keys_that_a_bad_one_asks_for(
    manager: AccountManager, authenticator: JwksAuthenticator, now: list[float], age_s: float
) -> None:
    token = manager.signer.sign(PRINCIPAL)
    await authenticator.authenticate(token)
    now[0] += age_s
    manager.hang()
    bad = asyncio.create_task(refused(authenticator))
    await manager.is_asked()
    async with asyncio.timeout(PATIENCE_S):
        assert await authenticator.authenticate(token) == PRINCIPAL
    assert not bad.done()
    manager.open.set()
    await bad


async def test_tokens_under_new_keys_all_wait_for_the_one_that_asks(
    manager: AccountManager, authenticator: JwksAuthenticator, now: list[float]
) -> None:
    await authenticator.authenticate(manager.signer.sign(PRINCIPAL))
    manager.signer = TokenSigner("second", "tradingflow", 900, CLOCK)
    now[0] += RETRY_S + 1
    manager.hang()
    token = manager.signer.sign(PRINCIPAL)
    waiting = [asyncio.create_task(authenticator.authenticate(token)) for _ in range(3)]
    await manager.is_asked()
    manager.open.set()
    assert await asyncio.gather(*waiting) == [PRINCIPAL] * 3
    assert manager.asked == 2
