"""Signing in with a wallet, over HTTP, on real Redis and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import httpx
from sqlalchemy import func, select

from tests.integration.account_manager.conftest import Session, SignIn, login, request_nonce, sign, wallet
from tradingflow.core.clock import SimulatedClock
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import AuthSession, User

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


async def test_a_wallet_signs_in_and_reads_its_account(alice: Session) -> None:
    answer = await alice.get("/users/me")
    assert answer.status_code == 200
    assert answer.json()["wallet"] == alice.account.address
    assert [w["address"] for w in answer.json()["wallets"]] == [alice.account.address]


async def test_signing_in_twice_is_the_same_account_with_two_sessions(
    sign_in: SignIn, sessions: SessionFactory
) -> None:
    first, second = await sign_in(wallet(1)), await sign_in(wallet(1))
    assert first.user_id == second.user_id
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(AuthSession)) == 2
        assert await session.scalar(select(func.count()).select_from(User)) == 1


async def test_first_sign_ins_of_one_wallet_that_race_make_one_account(
    http: httpx.AsyncClient, sessions: SessionFactory
) -> None:
    account = wallet(3)
    messages = [(await request_nonce(http, account))["message"] for _ in range(10)]
    answers = await asyncio.gather(*(login(http, m, sign(account, m)) for m in messages))
    assert {a.status_code for a in answers} == {200}
    assert len({a.json()["user_id"] for a in answers}) == 1


async def test_one_signed_message_posted_100_times_at_once_makes_exactly_one_session(
    http: httpx.AsyncClient, sessions: SessionFactory
) -> None:
    account = wallet(1)
    message = (await request_nonce(http, account))["message"]
    signature = sign(account, message)
    answers = await asyncio.gather(*(login(http, message, signature) for _ in range(100)))
    assert Counter(a.status_code for a in answers) == {200: 1, 401: 99}
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(AuthSession)) == 1


async def test_the_nonce_of_another_wallet_is_refused(http: httpx.AsyncClient) -> None:
    message = (await request_nonce(http, wallet(1)))["message"].replace(wallet(1).address, wallet(2).address)
    answer = await login(http, message, sign(wallet(2), message))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_nonce")


async def test_a_signature_by_another_wallet_is_refused_and_burns_the_nonce(http: httpx.AsyncClient) -> None:
    message = (await request_nonce(http, wallet(1)))["message"]
    wrong = await login(http, message, sign(wallet(2), message))
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_signature")
    late = await login(http, message, sign(wallet(1), message))
    assert (late.status_code, late.json()["error"]) == (401, "invalid_nonce")


async def test_the_high_s_twin_of_a_good_signature_is_refused(http: httpx.AsyncClient) -> None:
    message = (await request_nonce(http, wallet(1)))["message"]
    raw = bytes.fromhex(sign(wallet(1), message)[2:])
    s = CURVE_ORDER - int.from_bytes(raw[32:64])
    twin = raw[:32] + s.to_bytes(32) + bytes([55 - raw[64]])
    answer = await login(http, message, "0x" + twin.hex())
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_signature")


async def test_a_message_older_than_five_minutes_is_refused(http: httpx.AsyncClient, clock: SimulatedClock) -> None:
    message = (await request_nonce(http, wallet(1)))["message"]
    clock.advance_to(clock.now() + timedelta(minutes=5, seconds=1))
    answer = await login(http, message, sign(wallet(1), message))
    assert (answer.status_code, answer.json()["error"]) == (401, "message_expired")


async def test_a_nonce_for_a_chain_that_is_not_served_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/auth/nonce", json={"address": wallet(1).address, "chain_id": 1})
    assert (answer.status_code, answer.json()["error"]) == (422, "unknown_chain")


async def test_a_refresh_token_works_once_and_its_reuse_ends_the_session(alice: Session) -> None:
    first = await alice.http.post("/auth/refresh", json={"refresh_token": alice.refresh_token})
    assert first.status_code == 200
    reused = await alice.http.post("/auth/refresh", json={"refresh_token": alice.refresh_token})
    assert (reused.status_code, reused.json()["error"]) == (401, "invalid_refresh_token")
    family = await alice.http.post("/auth/refresh", json={"refresh_token": first.json()["refresh_token"]})
    assert (family.status_code, family.json()["error"]) == (401, "session_over")


async def test_of_two_refreshes_with_one_token_at_once_at_most_one_wins(alice: Session) -> None:
    answers = await asyncio.gather(
        *(alice.http.post("/auth/refresh", json={"refresh_token": alice.refresh_token}) for _ in range(20))
    )
    assert [a.status_code for a in answers].count(200) <= 1


async def test_after_logout_the_refresh_token_is_dead(alice: Session) -> None:
    assert (await alice.post("/auth/logout")).status_code == 204
    answer = await alice.http.post("/auth/refresh", json={"refresh_token": alice.refresh_token})
    assert answer.status_code == 401


async def test_routes_refuse_callers_without_token(http: httpx.AsyncClient) -> None:
    answer = await http.get("/users/me")
    assert (answer.status_code, answer.json()["error"]) == (401, "missing_token")
