"""Yours is yours: every route that takes an id, asked with a stranger's token. Generated from the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from sqlalchemy import insert

from devstack.anvil import CHAIN_ID
from tests.integration.account_manager.conftest import Session
from tests.integration.account_manager.test_history_routes import VAULT, trade
from tests.integration.account_manager.test_history_routes import flow as flow  # noqa: PLC0414 - the fixture
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import MonitoredContract, Signer, UserContract, VaultDeployment

# Routes whose ids name what belongs to nobody: public facts of a chain.
PUBLIC = {
    ("GET", "/token/{token_id}"),
    ("GET", "/token/chain/{chain_id}"),
    ("GET", "/evm/vaults/{chain_id}/operator"),
    ("GET", "/price/{chain_id}/{token}"),
    ("GET", "/price/{chain_id}/{token}/history"),
    ("POST", "/price/{chain_id}/batch"),
}
BODIES: dict[str, Any] = {
    "deposit": {"token": VAULT, "amount": "1"},
    "withdraw": {"token": VAULT, "amount": "1"},
    "policy": {"cooldown_s": 1},
    "confirm": {"code": "00000000"},
    "events": {"chain_id": CHAIN_ID, "address": VAULT},
    "{webhook_id}": {"paused": False},
    "operator": {"expires_at": "2030-01-01T00:00:00Z"},
}


def id_routes(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for path, operations in document["paths"].items():
        if "{" in path:
            yield from ((method.upper(), path) for method in operations)


@pytest.fixture
async def ids(alice: Session, flow: UUID, sessions: SessionFactory) -> dict[str, str]:
    """One id of alice's for every path parameter."""
    deployment = VaultDeployment(
        user_id=alice.user_id,
        request_key="k",
        chain_id=CHAIN_ID,
        owner_address=alice.account.address,
        salt="0x" + "00" * 32,
        predicted_address=VAULT,
        status="queued",
    )
    async with sessions.begin() as session:
        session.add(deployment)
        session.add(trade(alice.user_id, flow, 1))
        await session.execute(insert(Signer).values(chain_id=CHAIN_ID, address=VAULT, next_nonce=0))
    key = await alice.post("/auth/api-keys", {"name": "k", "scopes": ["read"], "expires_in_days": 1})
    credential = await alice.post("/users/me/credentials", {"name": "c", "secret": "s"})
    async with sessions.begin() as session:
        contract = UserContract(user_id=alice.user_id, chain_id=CHAIN_ID, address=VAULT, kind="erc20", name="")
        session.add(contract)
        session.add(MonitoredContract(chain_id=CHAIN_ID, address=VAULT, kind="vault", from_block=0))
    hook = (await alice.post("/webhooks", {"url": "https://example.com/"})).json()["id"]
    subscribed = await alice.post(f"/webhooks/{hook}/events", {"chain_id": CHAIN_ID, "address": VAULT})
    delivery = await alice.post(f"/webhooks/{hook}/test")
    channel = await alice.post("/notifications/channels", {"kind": "telegram", "target": "1"})
    return {
        "contract_id": str(contract.id),
        "webhook_id": hook,
        "subscription_id": subscribed.json()["id"],
        "delivery_id": delivery.json()["id"],
        "channel_id": channel.json()["id"],
        "chain_id": str(CHAIN_ID),
        "vault": VAULT,
        "address": alice.account.address,
        "task_id": str(deployment.id),
        "trade_id": "0x" + (1).to_bytes(32).hex(),
        "session_id": (await alice.get("/auth/sessions")).json()[0]["id"],
        "key_id": key.json()["id"],
        "credential_id": credential.json()["id"],
    }


async def test_every_route_with_an_id_is_a_404_for_a_stranger(
    app: FastAPI, alice: Session, mallory: Session, ids: dict[str, str]
) -> None:
    routes = set(id_routes(app.openapi()))
    private = sorted(routes - PUBLIC)
    assert routes >= PUBLIC
    assert len(private) >= 15
    for method, path in private:
        answer = await mallory.request(method, path.format(**ids), BODIES.get(path.rsplit("/", 1)[-1]))
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found"), f"{method} {path}: {answer.text}"

    # The ids were real: to their owner they exist. What holds others goes after them, the session last.
    def order(route: tuple[str, str]) -> tuple[bool, bool, int]:
        return route[0] == "DELETE", "session" in route[1], -route[1].count("/")

    for method, path in sorted(private, key=order):
        answer = await alice.request(method, path.format(**ids), BODIES.get(path.rsplit("/", 1)[-1]))
        assert answer.status_code != 404, f"{method} {path}: {answer.text}"
        assert answer.status_code != 500, f"{method} {path}: {answer.text}"
