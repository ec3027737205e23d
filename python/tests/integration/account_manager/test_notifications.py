"""Webhooks, Telegram and mail: told once, signed, repeated when it fails, taken back after a reorg."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import httpx
import pytest
from aiohttp import web
from pydantic import SecretStr
from sqlalchemy import delete, select, update

from devstack.anvil import CHAIN_ID
from tests.integration.account_manager.conftest import Session, SignIn
from tests.integration.account_manager.test_history_routes import POOL, START, VAULT, event, trade
from tests.integration.account_manager.test_history_routes import flow as flow  # noqa: PLC0414 - the fixture
from tests.integration.local_server import LocalServer
from tests.integration.local_server import server as server  # noqa: PLC0414 - the fixture
from tests.integration.smtp_server import smtp_server
from tradingflow.account_manager.notification.collector import Collector
from tradingflow.account_manager.notification.delivery import CLAIM, GIVEN_UP_AFTER, PAUSES_S, Deliverer
from tradingflow.account_manager.parts import Parts
from tradingflow.account_manager.retention.repository import DELIVERIES_KEPT, delete_some
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.config import AccountManagerSettings, ExecutorSettings
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import (
    ChainCursor,
    ContractEvent,
    EventSubscription,
    MonitoredContract,
    NotificationChannel,
    NotificationDelivery,
    Plan,
)
from tradingflow.outbound.client import GuardedHttp

HEAD, FINAL = 100, 90


@dataclass
class Post:
    """The jobs as Celery runs them, and a receiver."""

    sessions: SessionFactory
    settings: ExecutorSettings
    clock: SimulatedClock
    http: GuardedHttp
    receiver: LocalServer

    async def collect(self) -> None:
        await Collector(self.sessions, self.clock).collect()

    async def deliver(self) -> int:
        return await Deliverer(self.sessions, self.settings, self.http, self.clock).run()

    async def both(self) -> list[dict[str, Any]]:
        """What the receiver was told by one round."""
        before = len(self.receiver.bodies)
        await self.collect()
        await self.deliver()
        return [json.loads(body) for body in self.receiver.bodies[before:]]

    def later(self, pause: timedelta) -> None:
        self.clock.advance_to(self.clock.now() + pause)

    def answer(self, status: int, **headers: str) -> None:
        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, headers=headers, text="as you wish")

        self.receiver.answer = answer


@pytest.fixture
async def post(
    settings: AccountManagerSettings, sessions: SessionFactory, clock: SimulatedClock, server: LocalServer, parts: Parts
) -> AsyncIterator[Post]:
    executor = ExecutorSettings(
        database_url=SecretStr(settings.database_dsn),
        chains=settings.chains,
        telegram_bot_token=SecretStr("123:bot-secret"),
        telegram_url=server.url("").rstrip("/"),
    )
    http = GuardedHttp(allowed=[ip_network("127.0.0.1/32")])
    async with sessions.begin() as session:
        session.add(ChainCursor(chain_id=CHAIN_ID, next_block=HEAD, next_final_block=FINAL, updated_at=START))
        session.add(monitored(POOL))
    yield Post(sessions, executor, clock, http, server)
    await http.close()


def monitored(address: str, **changes: Any) -> MonitoredContract:
    fields = {"kind": "pool", "from_block": 0, "live_from": 0, "history_next": 0, **changes}
    return MonitoredContract(chain_id=CHAIN_ID, address=address, **fields)


async def add_webhook(session: Session, post: Post, **changes: Any) -> dict[str, Any]:
    answer = await session.post("/webhooks", {"url": post.receiver.url("/hook?key=1"), **changes})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def subscribe(session: Session, hook: dict[str, Any], **changes: Any) -> httpx.Response:
    body = {"chain_id": CHAIN_ID, "address": POOL, **changes}
    return await session.post(f"/webhooks/{hook['id']}/events", body)


async def deliveries(session: Session, hook: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await session.get(f"/webhooks/{hook['id']}/deliveries", **query)).json()["items"]
    return found


async def store(sessions: SessionFactory, *blocks: int, fork: int = 0, final: int = FINAL, head: int = HEAD) -> None:
    """As the Monitor does: the events and the cursor in one transaction."""
    async with sessions.begin() as session:
        for block in blocks:
            row = event(POOL, block, "Swap")
            row.block_hash = "0x" + (block + 1_000_000 * fork).to_bytes(32).hex()
            session.add(row)
        await session.execute(update(ChainCursor).values(next_block=head, next_final_block=final))


async def roll_back(sessions: SessionFactory, ancestor: int) -> None:
    async with sessions.begin() as session:
        await session.execute(delete(ContractEvent).where(ContractEvent.block_number > ancestor))
        await session.execute(update(ChainCursor).values(next_block=ancestor + 1))


async def test_a_webhook_is_told_with_a_signature_its_secret_verifies(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post, description="mine")
    assert (await alice.post(f"/webhooks/{hook['id']}/test")).status_code == 202
    await post.deliver()
    asked, body = post.receiver.asked[0], post.receiver.bodies[0]
    assert (asked.method, asked.path_qs) == ("POST", "/hook?key=1")
    assert json.loads(body)["type"] == "channel.test"
    secret = base64.b64decode(hook["secret"].removeprefix("whsec_"))
    content = f"{asked.headers['webhook-id']}.{asked.headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()
    assert asked.headers["webhook-signature"] == f"v1,{expected}"
    [delivery] = await deliveries(alice, hook)
    assert (delivery["id"], delivery["status"], delivery["tries"]) == (asked.headers["webhook-id"], "delivered", 1)
    assert delivery["last_answer"] == {"status": 200}
    assert await post.deliver() == 0


async def test_the_secret_is_shown_once_kept_sealed_and_rotates(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    assert "secret" not in (await alice.get(f"/webhooks/{hook['id']}")).json()
    async with post.sessions() as session:
        row = await session.get_one(NotificationChannel, UUID(hook["id"]))
        assert base64.b64decode(hook["secret"].removeprefix("whsec_")) not in (row.sealed or b"")
    fresh = (await alice.post(f"/webhooks/{hook['id']}/secret")).json()["secret"]
    assert fresh != hook["secret"]


async def test_a_failed_delivery_is_tried_again_later_under_the_same_id(
    alice: Session, post: Post, sign_in: SignIn
) -> None:
    hook = await add_webhook(alice, post)
    await alice.post(f"/webhooks/{hook['id']}/test")
    post.answer(500)
    await post.deliver()
    [delivery] = await deliveries(alice, hook, status="pending")
    assert delivery["last_answer"] == {"status": 500, "body": "as you wish"}
    assert await post.deliver() == 0, "not before its pause is over"
    for pause_s in PAUSES_S[:-1]:
        post.later(timedelta(seconds=pause_s * 1.1))
        assert await post.deliver() == 1
    post.answer(204)
    post.later(timedelta(seconds=PAUSES_S[-1] * 1.1))
    assert await post.deliver() == 1
    assert len({asked.headers["webhook-id"] for asked in post.receiver.asked}) == 1
    [delivery] = await deliveries(await sign_in(alice.account), hook)
    assert (delivery["status"], delivery["tries"]) == ("delivered", len(PAUSES_S) + 1)


async def test_what_failed_for_good_stays_visible_and_can_be_replayed(
    alice: Session, post: Post, sign_in: SignIn
) -> None:
    hook = await add_webhook(alice, post)
    await alice.post(f"/webhooks/{hook['id']}/test")
    post.answer(500)
    while await post.deliver():
        post.later(timedelta(days=2))
    assert await post.deliver() == 0
    alice = await sign_in(alice.account)
    [delivery] = await deliveries(alice, hook, status="failed")
    replay = f"/webhooks/{hook['id']}/deliveries/{delivery['id']}/replay"
    # It failed for days, and was paused for it.
    assert (await alice.get(f"/webhooks/{hook['id']}")).json()["status"] == "paused"
    assert (await alice.request("PATCH", f"/webhooks/{hook['id']}", {"paused": False})).json()["status"] == "active"
    post.answer(200)
    assert (await alice.post(replay)).status_code == 202
    assert (await alice.post(replay)).status_code == 409
    await post.deliver()
    [delivery] = await deliveries(alice, hook)
    assert (delivery["status"], delivery["tries"]) == ("delivered", 1)
    assert len({asked.headers["webhook-id"] for asked in post.receiver.asked}) == 1


async def test_a_receiver_sets_the_pause_and_ends_it_all_with_410(alice: Session, post: Post, sign_in: SignIn) -> None:
    hook = await add_webhook(alice, post)
    await alice.post(f"/webhooks/{hook['id']}/test")
    post.answer(429, **{"Retry-After": "3600"})
    await post.deliver()
    post.later(timedelta(minutes=50))
    assert await post.deliver() == 0
    post.later(timedelta(minutes=11))
    post.answer(410)
    assert await post.deliver() == 1
    state = (await (await sign_in(alice.account)).get(f"/webhooks/{hook['id']}")).json()
    assert (state["status"], state["paused_reason"]) == ("paused", "the receiver answered 410 Gone")


async def test_no_webhook_reaches_an_address_inside(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    await alice.post(f"/webhooks/{hook['id']}/test")
    guarded = GuardedHttp()
    await Deliverer(post.sessions, post.settings, guarded, post.clock).run()
    await guarded.close()
    assert post.receiver.asked == []
    [delivery] = await deliveries(alice, hook)
    assert delivery["last_answer"]["error"] == "address_forbidden"
    for url in (
        "ftp://example.com/",
        "http://user:pw@example.com/",
        "http://0x7f.1/",
        "http://x.com:22/",
        "x",
        "http://",
    ):
        answer = await alice.post("/webhooks", {"url": url})
        assert answer.status_code == 422, url


async def test_a_redirect_is_an_answer_and_not_followed(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    await alice.post(f"/webhooks/{hook['id']}/test")
    post.answer(307, Location=post.receiver.url("/elsewhere"))
    await post.deliver()
    assert [asked.path for asked in post.receiver.asked] == ["/hook"]
    assert (await deliveries(alice, hook))[0]["last_answer"]["status"] == 307


async def test_a_worker_that_dies_while_sending_delays_the_notice_and_loses_it_not(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    await alice.post(f"/webhooks/{hook['id']}/test")
    dead = Deliverer(post.sessions, post.settings, post.http, post.clock)
    [claimed] = await dead._claim()
    assert await post.deliver() == 0, "somebody is at it"
    post.later(CLAIM + timedelta(seconds=1))
    assert await post.deliver() == 1
    # The dead one was only slow, and now says that it failed: it no longer holds the claim.
    post.answer(500)
    await dead._try(claimed)
    [delivery] = await deliveries(alice, hook)
    assert (delivery["status"], delivery["tries"]) == ("delivered", 2)


async def test_a_receiver_that_hangs_takes_no_more_than_its_share(alice: Session, mallory: Session, post: Post) -> None:
    slow, quick = await add_webhook(mallory, post), await add_webhook(alice, post)
    for _ in range(20):
        await mallory.post(f"/webhooks/{slow['id']}/test")
    await alice.post(f"/webhooks/{quick['id']}/test")
    claimed = await Deliverer(post.sessions, post.settings, post.http, post.clock)._claim()
    assert sorted(str(one.channel.id) for one in claimed).count(slow["id"]) == 5
    assert quick["id"] in {str(one.channel.id) for one in claimed}


async def test_final_events_are_told_once_and_in_time(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    assert (await subscribe(alice, hook, name="Swap")).status_code == 201
    await store(post.sessions, 50, HEAD, HEAD + 1, head=HEAD + 2)
    assert await post.both() == [], "nothing of it is final"
    await store(post.sessions, head=HEAD + 10, final=HEAD + 1)
    [told] = await post.both()
    assert (told["type"], told["data"]["block_number"]) == ("contract.event", HEAD)
    assert told["data"]["args"] == {"amount": str(2**200)}
    assert await post.both() == []
    await store(post.sessions, head=HEAD + 20, final=HEAD + 10)
    assert [told["data"]["block_number"] for told in await post.both()] == [HEAD + 1]
    assert [s["next_block"] for s in (await alice.get(f"/webhooks/{hook['id']}/events")).json()] == [HEAD + 10]


async def test_instant_events_are_told_at_once_and_taken_back_after_a_reorg(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    await subscribe(alice, hook, certainty="instant")
    await store(post.sessions, HEAD, HEAD + 1, head=HEAD + 2)
    first = await post.both()
    assert [told["data"]["block_number"] for told in first] == [HEAD, HEAD + 1]
    await roll_back(post.sessions, HEAD)
    [gone] = await post.both()
    assert (gone["type"], gone["data"]["event_id"]) == ("contract.event_reverted", first[1]["data"]["event_id"])
    await store(post.sessions, HEAD + 1, fork=1, head=HEAD + 2)
    [other] = await post.both()
    assert other["data"]["event_id"] != first[1]["data"]["event_id"]
    # And back to the branch it was on at first: the same event once more.
    await roll_back(post.sessions, HEAD)
    await store(post.sessions, HEAD + 1, head=HEAD + 2)
    again = await post.both()
    assert sorted(told["type"] for told in again) == ["contract.event", "contract.event_reverted"]
    await store(post.sessions, head=HEAD + 99, final=HEAD + 50)
    assert await post.both() == []


async def test_an_event_removed_before_it_was_told_is_not_told(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    await subscribe(alice, hook, certainty="instant")
    await store(post.sessions, HEAD, head=HEAD + 1)
    await post.collect()
    await roll_back(post.sessions, HEAD - 1)
    assert await post.both() == []
    assert [d["status"] for d in await deliveries(alice, hook)] == ["failed"]


async def test_events_of_a_past_still_being_read_are_waited_for(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    await subscribe(alice, hook)
    async with post.sessions.begin() as session:
        await session.execute(update(MonitoredContract).values(live_from=HEAD + 20, history_next=HEAD - 50))
    await store(post.sessions, head=HEAD + 90, final=HEAD + 80)
    assert await post.both() == []
    await store(post.sessions, HEAD + 5, head=HEAD + 90, final=HEAD + 80)
    async with post.sessions.begin() as session:
        await session.execute(update(MonitoredContract).values(history_next=HEAD + 20))
    assert [told["data"]["block_number"] for told in await post.both()] == [HEAD + 5]
    assert [s["next_block"] for s in (await alice.get(f"/webhooks/{hook['id']}/events")).json()] == [HEAD + 80]


async def test_trades_are_told_to_their_owner_as_the_preferences_say(
    alice: Session, mallory: Session, post: Post, flow: UUID
) -> None:
    await add_webhook(alice, post)
    await add_webhook(mallory, post)
    chosen = await alice.post("/webhooks", {"url": post.receiver.url("/failures"), "topics": ["trade.failed"]})
    assert chosen.status_code == 201
    assert await post.both() == [], "the first look begins now"
    await alice.request("PATCH", "/users/me/preferences", {"notifications": {"trade_failed": False}})
    now = post.clock.now()
    async with post.sessions.begin() as session:
        session.add(trade(alice.user_id, flow, 1, settled_at=now, status="completed"))
        session.add(trade(alice.user_id, flow, 2, settled_at=now, status="failed", failure_code="slippage"))
        session.add(trade(alice.user_id, flow, 3, settled_at=now - timedelta(seconds=60)))
    told = {(told["type"], told["data"]["cycle"]) for told in await post.both()}
    assert told == {("trade.completed", 1), ("trade.failed", 2)}
    failures = [asked.path for asked in post.receiver.asked].count("/failures")
    assert (len(post.receiver.asked), failures) == (2, 1)
    post.later(timedelta(seconds=1))
    assert await post.both() == [], "each once"


async def test_withdrawals_are_told_once_they_are_final(alice: Session, post: Post, flow: UUID) -> None:
    await add_webhook(alice, post)
    await post.collect()
    async with post.sessions.begin() as session:
        moved = event(VAULT, HEAD, "UserWithdraw")
        moved.block_time = post.clock.now()
        session.add(moved)
    await store(post.sessions, head=HEAD + 30, final=HEAD)
    assert await post.both() == []
    await store(post.sessions, head=HEAD + 30, final=HEAD + 1)
    assert [told["type"] for told in await post.both()] == ["vault.withdrawal"]
    assert await post.both() == []


async def test_a_plan_bounds_channels_subscriptions_and_notices(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    async with post.sessions.begin() as session:
        await session.execute(update(Plan).values(channels=1, event_subscriptions=1, notices_per_day=3))
        session.add(monitored(VAULT))
    assert (await alice.post("/webhooks", {"url": post.receiver.url("/b")})).json()["error"] == "too_many_channels"
    assert (await subscribe(alice, hook)).status_code == 201
    assert (await subscribe(alice, hook, address=VAULT)).json()["error"] == "too_many_subscriptions"
    await store(post.sessions, *range(HEAD, HEAD + 4), head=HEAD + 9, final=HEAD + 9)
    assert await post.both() == []
    state = (await alice.get(f"/webhooks/{hook['id']}")).json()
    assert (state["status"], state["paused_reason"]) == ("paused", "more notices in a day than the plan has")


async def test_a_subscription_is_for_a_monitored_contract_that_is_no_strangers_vault(
    alice: Session, mallory: Session, post: Post, flow: UUID
) -> None:
    hook = await add_webhook(mallory, post)
    async with post.sessions.begin() as session:
        session.add(monitored(VAULT))
    assert (await subscribe(mallory, hook, address=VAULT)).status_code == 404
    unknown = "0x" + "99" * 20
    assert (await subscribe(mallory, hook, address=unknown)).json()["error"] == "not_monitored"
    assert (await subscribe(mallory, hook)).status_code == 201
    assert (await subscribe(mallory, hook)).json()["error"] == "already_subscribed"


async def test_a_paused_webhook_is_told_nothing_of_the_pause(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    await subscribe(alice, hook, certainty="instant")
    await alice.request("PATCH", f"/webhooks/{hook['id']}", {"paused": True})
    await store(post.sessions, HEAD, head=HEAD + 1)
    assert await post.both() == []
    await alice.request("PATCH", f"/webhooks/{hook['id']}", {"paused": False})
    assert await post.both() == []
    await store(post.sessions, HEAD + 1, head=HEAD + 2)
    assert [told["data"]["block_number"] for told in await post.both()] == [HEAD + 1]


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


async def test_a_channel_that_only_fails_for_days_is_paused(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    post.answer(500)
    await alice.post(f"/webhooks/{hook['id']}/test")
    await post.deliver()
    post.later(GIVEN_UP_AFTER + timedelta(hours=1))
    await post.deliver()
    # The access token has expired by now, so the row is asked.
    async with post.sessions() as session:
        row = await session.get_one(NotificationChannel, UUID(hook["id"]))
    assert (row.status, row.paused_reason) == ("paused", "every delivery failed for five days")


async def test_old_deliveries_are_deleted_and_pending_ones_kept(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    for _ in range(3):
        await alice.post(f"/webhooks/{hook['id']}/test")
    async with post.sessions.begin() as session:
        [kept, *_] = await session.scalars(select(NotificationDelivery.id))
        await session.execute(
            update(NotificationDelivery).where(NotificationDelivery.id != kept).values(status="failed", due_at=None)
        )
    async with post.sessions.begin() as session:
        assert await delete_some(session, post.clock.now(), 100) == 0
    post.later(DELIVERIES_KEPT + timedelta(days=1))
    async with post.sessions.begin() as session:
        assert await delete_some(session, post.clock.now(), 100) == 2
    async with post.sessions() as session:
        assert list(await session.scalars(select(NotificationDelivery.id))) == [kept]
        assert list(await session.scalars(select(EventSubscription))) == []
