"""Telegram and mail: told nothing before the code came back, and never too much."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from uuid import UUID

import pytest
from aiohttp import web

from tests.integration.account_manager.conftest import Session
from tests.integration.account_manager.notices import (
    Post,
)
from tests.integration.account_manager.notices import post as post  # noqa: PLC0414 - the fixture
from tests.integration.account_manager.test_history_routes import flow as flow  # noqa: PLC0414 - the fixture
from tests.integration.account_manager.test_history_routes import trade
from tests.integration.local_server import server as server  # noqa: PLC0414 - the fixture
from tests.integration.smtp_server import smtp_server


async def test_a_mail_address_is_told_nothing_before_it_gave_its_code_back(
    alice: Session, post: Post, flow: UUID
) -> None:
    async with smtp_server() as mails:
        smtp = {"smtp_host": "127.0.0.1", "smtp_port": mails.port, "smtp_security": "none"}
        post.settings = post.settings.model_copy(update=smtp)
        channel = (await alice.post("/notifications/channels", {"kind": "email", "target": "Me@Example.com"})).json()
        assert (channel["status"], channel["target"]) == ("unconfirmed", "me@example.com")
        await post.both()
        async with post.sessions.begin() as session:
            session.add(trade(alice.user_id, flow, 1, settled_at=post.clock.now()))
        await post.both()
        [mail] = mails.mails
        assert mail["to"] == "me@example.com"
        found = re.search(r"\b\d{8}\b", mail.get_content())
        assert found is not None
        code = found.group()
        confirm = f"/notifications/channels/{channel['id']}/confirm"
        wrong = f"{(int(code) + 1) % 10**8:08}"
        assert (await alice.post(confirm, {"code": wrong})).json()["error"] == "wrong_code"
        assert (await alice.post(confirm, {"code": code})).json()["status"] == "active"
        assert code not in (await alice.get(f"/notifications/channels/{channel['id']}/deliveries")).text
        post.later(timedelta(seconds=1))
        async with post.sessions.begin() as session:
            session.add(trade(alice.user_id, flow, 2, settled_at=post.clock.now()))
        await post.both()
        told = [str(mail["subject"]) for mail in mails.mails[1:]]
        assert "TradingFlow: Trade completed" in told


async def test_a_code_can_be_guessed_five_times_only(alice: Session, post: Post) -> None:
    async with smtp_server() as mails:
        smtp = {"smtp_host": "127.0.0.1", "smtp_port": mails.port, "smtp_security": "none"}
        post.settings = post.settings.model_copy(update=smtp)
        channel = (await alice.post("/notifications/channels", {"kind": "email", "target": "a@example.com"})).json()
        confirm = f"/notifications/channels/{channel['id']}/confirm"
        assert (await alice.post(confirm, {"code": "00000000"})).json()["error"] == "no_code_yet"
        await post.deliver()
        found = re.search(r"\b\d{8}\b", mails.mails[0].get_content())
        assert found is not None
        for guess in range(5):
            await alice.post(confirm, {"code": f"{(int(found.group()) + 1 + guess) % 10**8:08}"})
        assert (await alice.post(confirm, {"code": found.group()})).json()["error"] == "wrong_code"


async def test_nobody_can_flood_a_strangers_address_with_codes(alice: Session, mallory: Session, post: Post) -> None:
    answers = []
    for who in (alice, mallory) * 4:
        answer = await who.post("/notifications/channels", {"kind": "email", "target": "victim@example.com"})
        answers.append(answer.status_code)
        if answer.status_code == 201:
            await who.request("DELETE", f"/notifications/channels/{answer.json()['id']}")
    assert answers.count(201) == 5
    assert set(answers[5:]) == {429}


async def test_telegram_is_spoken_to_in_its_own_format_and_its_token_is_not_told(alice: Session, post: Post) -> None:
    async def telegram(request: web.Request) -> web.Response:
        body = await request.json()
        assert request.path == "/bot123:bot-secret/sendMessage"
        if body["chat_id"] == "404":
            described = "Bad Request: chat not found"
            return web.json_response({"ok": False, "error_code": 400, "description": described}, status=400)
        return web.json_response({"ok": True, "result": {"message_id": 1}})

    post.receiver.answer = telegram
    for target in ("42", "404"):
        answer = await alice.post("/notifications/channels", {"kind": "telegram", "target": target})
        assert answer.status_code == 201
    await post.deliver()
    assert {json.loads(body)["chat_id"] for body in post.receiver.bodies} == {"42", "404"}
    channels = (await alice.get("/notifications/channels")).json()
    texts = [(await alice.get(f"/notifications/channels/{channel['id']}/deliveries")).text for channel in channels]
    assert "chat not found" in "".join(texts)
    assert "bot-secret" not in "".join(texts)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("email", "nobody"),
        ("email", "a@b"),
        ("email", "a@example.com\r\nBcc: x@example.com"),
        ("email", "a@example.com, b@example.com"),
        ("telegram", "me"),
        ("telegram", "0"),
        ("telegram", "1/../x"),
    ],
)
async def test_a_target_that_is_none_is_refused(alice: Session, post: Post, kind: str, target: str) -> None:
    answer = await alice.post("/notifications/channels", {"kind": kind, "target": target})
    assert answer.status_code == 422
