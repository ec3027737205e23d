"""Too many requests are refused with the time to wait."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from devstack.anvil import CHAIN_ID
from tests.integration.account_manager.conftest import BASE_URL, Session, login, request_nonce, sign, wallet
from tradingflow.core.config import AccountManagerSettings


@pytest.fixture
def settings(settings: AccountManagerSettings) -> AccountManagerSettings:
    return settings.model_copy(update={"sign_in_limit": "5/minute", "request_limit": "20/minute"})


@asynccontextmanager
async def calling_from(app: FastAPI, address: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as http:
        yield http


async def test_sign_in_is_limited_by_client_address(http: httpx.AsyncClient) -> None:
    answers = [
        await http.post("/auth/nonce", json={"address": wallet(n).address, "chain_id": CHAIN_ID}) for n in range(6)
    ]
    assert [a.status_code for a in answers] == [200] * 5 + [429]
    assert answers[-1].json()["error"] == "too_many_requests"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


async def test_strangers_cannot_use_up_the_sign_ins_of_a_wallet_they_name(
    app: FastAPI, http: httpx.AsyncClient, mallory: Session
) -> None:
    owner = wallet(1)
    body = {"address": owner.address, "chain_id": CHAIN_ID}
    by_account = [(await mallory.post("/users/me/wallets/nonce", body)).status_code for _ in range(6)]
    assert by_account == [200] * 5 + [429]
    async with calling_from(app, "10.0.0.1") as stranger:
        by_address = [(await stranger.post("/auth/nonce", json=body)).status_code for _ in range(6)]
        assert by_address == [200] * 5 + [429]
    async with calling_from(app, "10.0.0.2") as stranger:
        message = (await request_nonce(stranger, owner))["message"]
        tries = [(await login(stranger, message, sign(wallet(2), message))).status_code for _ in range(5)]
        assert tries == [401] * 4 + [429]
    async with calling_from(app, "10.0.0.3") as at_home:
        message = (await request_nonce(at_home, owner))["message"]
        assert (await login(at_home, message, sign(owner, message))).status_code == 200


async def test_requests_are_limited_by_account_and_one_account_does_not_limit_another(
    alice: Session, mallory: Session
) -> None:
    codes = [(await alice.get("/users/me")).status_code for _ in range(21)]
    assert codes == [200] * 20 + [429]
    assert (await mallory.get("/users/me")).status_code == 200


async def test_test_notices_are_limited_by_account(alice: Session, mallory: Session) -> None:
    mine, theirs = [
        (await session.post("/webhooks", {"url": "https://example.com/"})).json()["id"] for session in (alice, mallory)
    ]
    answers = [await alice.post(f"/webhooks/{mine}/test") for _ in range(11)]
    assert [a.status_code for a in answers] == [202] * 10 + [429]
    assert answers[-1].json()["detail"] == "at most 10 per 1 minute test notices are allowed"
    assert (await mallory.post(f"/webhooks/{theirs}/test")).status_code == 202
