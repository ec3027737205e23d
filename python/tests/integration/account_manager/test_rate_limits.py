"""Too many requests are refused with the time to wait."""

from __future__ import annotations

import httpx
import pytest

from devstack.anvil import CHAIN_ID
from tests.integration.account_manager.conftest import Session, running, wallet
from tradingflow.account_manager.server import create_app
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.config import AccountManagerSettings


@pytest.fixture
def settings(settings: AccountManagerSettings) -> AccountManagerSettings:
    return settings.model_copy(update={"sign_in_limit": "5/minute", "request_limit": "20/minute"})


async def test_sign_in_is_limited_by_client_address(http: httpx.AsyncClient) -> None:
    answers = [
        await http.post("/auth/nonce", json={"address": wallet(n).address, "chain_id": CHAIN_ID}) for n in range(6)
    ]
    assert [a.status_code for a in answers] == [200] * 5 + [429]
    assert answers[-1].json()["error"] == "too_many_requests"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


async def test_sign_in_is_limited_by_wallet_also_from_many_addresses(
    settings: AccountManagerSettings, clock: SimulatedClock
) -> None:
    app = create_app(settings, clock)
    body = {"address": wallet(1).address, "chain_id": CHAIN_ID}
    codes = []
    async with running(app):
        for n in range(6):
            transport = httpx.ASGITransport(app, client=(f"10.0.0.{n}", 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7000") as http:
                codes.append((await http.post("/auth/nonce", json=body)).status_code)
    assert codes == [200] * 5 + [429]


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
