"""Sessions, API keys, wallets, preferences, credentials, export and deletion of an account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from eth_account.signers.local import LocalAccount
from sqlalchemy import delete, func, select, update

from devstack.anvil import CHAIN_ID
from tests.integration.account_manager.conftest import Session, SignIn, login, request_nonce, sign, wallet
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.user import service
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.errors import InvariantBroken
from tradingflow.core.sealing import Sealed
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import ApiKey, Credential, Flow, FlowVersion, User, Vault, VaultDeployment


async def link(session: Session, account: LocalAccount) -> httpx.Response:
    nonce = await session.post("/users/me/wallets/nonce", {"address": account.address, "chain_id": CHAIN_ID})
    message = nonce.json()["message"]
    return await session.post("/users/me/wallets", {"message": message, "signature": sign(account, message)})


async def unlink(session: Session, address: str, by: LocalAccount) -> httpx.Response:
    body = {"address": by.address, "chain_id": CHAIN_ID, "unlink": address}
    message = (await session.post("/users/me/wallets/unlink/nonce", body)).json()["message"]
    signed = {"address": address, "message": message, "signature": sign(by, message)}
    return await session.post("/users/me/wallets/unlink", signed)


async def new_key(session: Session, **changes: Any) -> dict[str, Any]:
    body = {"name": "bot", "scopes": ["read"], "expires_in_days": 30, **changes}
    answer = await session.post("/auth/api-keys", body)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


async def test_a_session_that_was_ended_is_refused_at_once_with_a_token_that_still_lives(sign_in: SignIn) -> None:
    first, second = await sign_in(wallet(1)), await sign_in(wallet(1))
    listed = (await first.get("/auth/sessions")).json()
    other = next(s["id"] for s in listed if not s["is_current"])
    assert (await first.request("DELETE", f"/auth/sessions/{other}")).status_code == 204
    refused = await second.get("/users/me")
    assert (refused.status_code, refused.json()["error"]) == (401, "session_over")
    assert (await first.get("/users/me")).status_code == 200


async def test_the_session_of_another_user_cannot_be_ended(alice: Session, mallory: Session) -> None:
    victim = (await alice.get("/auth/sessions")).json()[0]["id"]
    assert (await mallory.request("DELETE", f"/auth/sessions/{victim}")).status_code == 404
    assert (await alice.get("/users/me")).status_code == 200


async def test_an_api_key_reads_is_shown_once_and_is_kept_only_as_a_hash(
    alice: Session, http: httpx.AsyncClient, sessions: SessionFactory
) -> None:
    created = await new_key(alice)
    answer = await http.get("/users/me", headers={"Authorization": f"Bearer {created['key']}"})
    assert answer.json()["id"] == str(alice.user_id)
    assert "key" not in (await alice.get("/auth/api-keys")).json()[0]
    async with sessions() as session:
        row = (await session.scalars(select(ApiKey))).one()
    assert created["key"].encode() not in row.hash


async def test_a_reading_key_changes_nothing_and_no_key_manages_the_account(
    alice: Session, http: httpx.AsyncClient
) -> None:
    reading, trading = await new_key(alice), await new_key(alice, name="trader", scopes=["read", "trade"])
    body = {"chain_id": CHAIN_ID, "address": wallet(0).address}
    for key, path in ((reading, "/token/"), (trading, "/auth/api-keys")):
        answer = await http.post(path, json=body, headers={"Authorization": f"Bearer {key['key']}"})
        assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope"), path


async def test_a_revoked_key_and_its_access_token_stop_working(alice: Session, http: httpx.AsyncClient) -> None:
    created = await new_key(alice)
    exchanged = await http.post("/auth/access-token", json={"api_key": created["key"]})
    headers = {"Authorization": f"Bearer {exchanged.json()['access_token']}"}
    assert (await http.get("/users/me", headers=headers)).status_code == 200
    assert (await http.post("/token/", json={}, headers=headers)).status_code == 403
    await alice.request("DELETE", f"/auth/api-keys/{created['id']}")
    assert (await http.get("/users/me", headers=headers)).status_code == 401
    by_key = await http.get("/users/me", headers={"Authorization": f"Bearer {created['key']}"})
    assert (by_key.status_code, by_key.json()["error"]) == (401, "invalid_api_key")


async def test_an_expired_key_is_refused(alice: Session, http: httpx.AsyncClient, clock: SimulatedClock) -> None:
    created = await new_key(alice, expires_in_days=1)
    clock.advance_to(clock.now() + timedelta(days=1, seconds=1))
    answer = await http.get("/users/me", headers={"Authorization": f"Bearer {created['key']}"})
    assert answer.status_code == 401


async def test_a_linked_wallet_signs_in_to_the_same_account(alice: Session, sign_in: SignIn) -> None:
    assert (await link(alice, wallet(4))).status_code == 201
    assert (await sign_in(wallet(4))).user_id == alice.user_id


async def test_a_wallet_of_another_account_cannot_be_linked(alice: Session, mallory: Session) -> None:
    answer = await link(alice, mallory.account)
    assert (answer.status_code, answer.json()["error"]) == (409, "wallet_taken")


async def test_a_message_signed_to_sign_in_does_not_link_and_one_to_link_does_not_sign_in(
    alice: Session, http: httpx.AsyncClient
) -> None:
    message = (await request_nonce(http, wallet(4)))["message"]
    linked = await alice.post("/users/me/wallets", {"message": message, "signature": sign(wallet(4), message)})
    assert (linked.status_code, linked.json()["error"]) == (401, "wrong_statement")
    body = {"address": wallet(4).address, "chain_id": CHAIN_ID}
    message = (await alice.post("/users/me/wallets/nonce", body)).json()["message"]
    signed_in = await login(http, message, sign(wallet(4), message))
    assert (signed_in.status_code, signed_in.json()["error"]) == (401, "invalid_nonce")


async def test_unlinking_signs_out_what_the_wallet_had_signed_in(alice: Session, sign_in: SignIn) -> None:
    await link(alice, wallet(4))
    other = await sign_in(wallet(4))
    assert (await unlink(alice, wallet(4).address, by=alice.account)).status_code == 204
    assert (await other.get("/users/me")).status_code == 401
    assert (await sign_in(wallet(4))).user_id != alice.user_id


async def test_no_connection_waits_while_the_chain_is_asked_about_a_wallet(
    alice: Session, held_while_asked: list[int]
) -> None:
    signed = {"signature": sign(wallet(5), "something else")}  # by no key of theirs: they might be contracts
    body = {"address": wallet(4).address, "chain_id": CHAIN_ID}
    signed["message"] = (await alice.post("/users/me/wallets/nonce", body)).json()["message"]
    assert (await alice.post("/users/me/wallets", signed)).status_code == 401
    body = {"address": alice.account.address, "chain_id": CHAIN_ID, "unlink": alice.account.address}
    signed["message"] = (await alice.post("/users/me/wallets/unlink/nonce", body)).json()["message"]
    refused = await alice.post("/users/me/wallets/unlink", signed | {"address": alice.account.address})
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_signature")
    assert held_while_asked == [0, 0]


async def test_the_last_wallet_and_one_that_owns_vaults_stay_linked(alice: Session, sessions: SessionFactory) -> None:
    last = await unlink(alice, alice.account.address, by=alice.account)
    assert (last.status_code, last.json()["error"]) == (409, "last_wallet")
    await link(alice, wallet(4))
    async with sessions.begin() as session:
        session.add(
            Vault(
                user_id=alice.user_id,
                chain_id=CHAIN_ID,
                address=wallet(9).address,
                owner_address=wallet(4).address,
                factory=wallet(9).address,
                created_block=1,
            )
        )
    owner = await unlink(alice, wallet(4).address, by=alice.account)
    assert (owner.status_code, owner.json()["error"]) == (409, "wallet_owns_vaults")


async def test_a_wallet_stays_linked_while_its_vault_is_being_created(alice: Session, sessions: SessionFactory) -> None:
    await link(alice, wallet(4))
    async with sessions.begin() as session:
        session.add(
            VaultDeployment(
                id=uuid4(),
                user_id=alice.user_id,
                request_key="first",
                chain_id=CHAIN_ID,
                owner_address=wallet(4).address,
                salt="0x" + "11" * 32,
                predicted_address=wallet(9).address,
                status="queued",
            )
        )
    refused = await unlink(alice, wallet(4).address, by=alice.account)
    assert (refused.status_code, refused.json()["error"]) == (409, "wallet_owns_vaults")
    async with sessions.begin() as session:
        await session.execute(update(VaultDeployment).values(status="failed"))
    assert (await unlink(alice, wallet(4).address, by=alice.account)).status_code == 204


async def test_a_stranger_cannot_agree_to_an_unlinking(alice: Session) -> None:
    await link(alice, wallet(4))
    answer = await unlink(alice, wallet(4).address, by=wallet(6))
    assert (answer.status_code, answer.json()["error"]) == (401, "not_your_wallet")


async def test_preferences_have_defaults_keep_changes_and_refuse_unknown_keys(alice: Session) -> None:
    assert (await alice.get("/users/me/preferences")).json()["default_slippage_bps"] == 50
    changed = await alice.request(
        "PATCH", "/users/me/preferences", {"default_slippage_bps": 30, "notifications": {"trade_failed": False}}
    )
    assert changed.json()["notifications"]["trade_failed"] is False
    await alice.request("PATCH", "/users/me/preferences", {"default_slippage_bps": None, "time_zone": "Asia/Shanghai"})
    final = (await alice.get("/users/me/preferences")).json()
    assert (final["default_slippage_bps"], final["time_zone"], final["notifications"]["trade_failed"]) == (
        50,
        "Asia/Shanghai",
        False,
    )
    for body in ({"colour": "red"}, {"time_zone": "Mars/Olympus"}, {"notifications": {"x": True}}):
        assert (await alice.request("PATCH", "/users/me/preferences", body)).status_code == 422


async def test_a_credential_is_never_readable_and_opens_only_in_its_own_row(
    alice: Session, sessions: SessionFactory, parts: Parts
) -> None:
    secret = "sk-very-secret-indeed"
    for name in ("openai", "telegram"):
        answer = await alice.post("/users/me/credentials", {"name": name, "secret": secret})
        assert answer.status_code == 201
        assert secret not in answer.text
    assert secret not in (await alice.get("/users/me/credentials")).text
    assert secret not in (await alice.get("/users/me/export")).text
    async with sessions() as session:
        first, second = (await session.scalars(select(Credential).order_by(Credential.name))).all()
    assert secret.encode() not in first.sealed
    sealed = Sealed(first.key_id, first.sealed)
    assert parts.sealer.open(sealed, first.id, alice.user_id) == secret.encode()
    for row_id, owner in ((second.id, alice.user_id), (first.id, uuid4())):
        with pytest.raises(InvariantBroken):
            parts.sealer.open(sealed, row_id, owner)


async def test_the_credential_of_another_user_cannot_be_deleted(alice: Session, mallory: Session) -> None:
    created = (await alice.post("/users/me/credentials", {"name": "a", "secret": "b"})).json()
    assert (await mallory.request("DELETE", f"/users/me/credentials/{created['id']}")).status_code == 404
    assert (await alice.request("DELETE", f"/users/me/credentials/{created['id']}")).status_code == 204


async def test_a_deleted_account_is_gone_with_all_its_rows_and_tokens(alice: Session, sessions: SessionFactory) -> None:
    await alice.post("/users/me/credentials", {"name": "a", "secret": "b"})
    unsure = await alice.request("DELETE", "/users/me", {"confirm": wallet(2).address})
    assert unsure.status_code == 422
    assert (await alice.request("DELETE", "/users/me", {"confirm": alice.account.address})).status_code == 204
    assert (await alice.get("/users/me")).status_code == 401
    async with sessions() as session:
        for table in (User, Credential):
            assert await session.scalar(select(func.count()).select_from(table)) == 0


async def test_an_account_with_running_flows_is_not_deleted(alice: Session, sessions: SessionFactory) -> None:
    async with sessions.begin() as session:
        session.add(Flow(user_id=alice.user_id, flow_id="f", status="running", mode="live", current_version=1))
    answer = await alice.request("DELETE", "/users/me", {"confirm": alice.account.address})
    assert (answer.status_code, answer.json()["error"]) == (409, "account_busy")


async def test_the_export_holds_all_that_is_kept_and_no_secret(alice: Session, mallory: Session) -> None:
    key = await new_key(alice)
    hook = (await alice.post("/webhooks", {"url": "https://example.com/hook"})).json()
    await mallory.post("/webhooks", {"url": "https://example.com/other"})
    answer = await alice.get("/users/me/export")
    exported = answer.json()
    assert [k["name"] for k in exported["api_keys"]] == ["bot"]
    assert [c["target"] for c in exported["channels"]] == ["https://example.com/hook"]
    assert len(exported["sessions"]) == 1
    assert exported["contracts"] == []
    assert key["key"] not in answer.text
    assert hook["secret"] not in answer.text


async def test_the_export_reads_one_graph_at_a_time(
    alice: Session, mallory: Session, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All versions of all flows together would end the service. One deleted meanwhile is left out."""
    async with sessions.begin() as session:
        for owner, name in ((alice, "f"), (alice, "gone"), (mallory, "other")):
            flow = Flow(id=uuid4(), user_id=owner.user_id, flow_id=name, status="stopped", mode="paper")
            flow.current_version = 2
            session.add(flow)
            await session.flush()
            session.add_all(FlowVersion(flow_pk=flow.id, version=n, graph={"nodes": [name, n]}) for n in (1, 2))
    pieces: list[bytes] = []
    with_history = service.with_history

    async def told(*asked: Any) -> AsyncIterator[bytes]:
        async for piece in with_history(*asked):
            if not pieces:
                async with sessions.begin() as session:
                    await session.execute(delete(Flow).where(Flow.flow_id == "gone"))
            pieces.append(piece)
            yield piece

    monkeypatch.setattr(service, "with_history", told)
    exported = (await alice.get("/users/me/export")).json()
    assert exported["account"]["wallet"] == alice.account.address
    shared = {"flow_id": "f", "status": "stopped", "mode": "paper"}
    assert exported["flows"] == [{**shared, "version": n, "flow_json": {"nodes": ["f", n]}} for n in (1, 2)]
    assert [piece.count(b"flow_json") for piece in pieces] == [0, 0, 1, 1, 0]
