"""Webhooks: signed, repeated when they fail, replayed, and no way inside."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select, update

from tests.integration.account_manager.conftest import Session, SignIn
from tests.integration.account_manager.notices import (
    HEAD,
    Post,
    add_webhook,
    deliveries,
    monitored,
    store,
    subscribe,
)
from tests.integration.account_manager.notices import post as post  # noqa: PLC0414 - the fixture
from tests.integration.account_manager.test_history_routes import VAULT
from tests.integration.account_manager.test_history_routes import flow as flow  # noqa: PLC0414 - the fixture
from tests.integration.local_server import server as server  # noqa: PLC0414 - the fixture
from tradingflow.account_manager.notification.delivery import CLAIM, GIVEN_UP_AFTER, PAUSES_S, Deliverer
from tradingflow.account_manager.notification.outgoing import delivery_row, write
from tradingflow.account_manager.notification.topics import TEST
from tradingflow.account_manager.retention.repository import DELIVERIES_KEPT, delete_some
from tradingflow.db.models import (
    EventSubscription,
    NotificationChannel,
    NotificationDelivery,
    Plan,
)
from tradingflow.outbound.client import GuardedHttp


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
    backlog = [delivery_row(UUID(slow["id"]), f"{n}", TEST, {}, post.clock.now()) for n in range(1_500)]
    async with post.sessions.begin() as session:
        await write(session, backlog)
    await alice.post(f"/webhooks/{quick['id']}/test")
    claimed = await Deliverer(post.sessions, post.settings, post.http, post.clock)._claim()
    assert sorted(str(one.channel.id) for one in claimed).count(slow["id"]) == 5
    assert quick["id"] in {str(one.channel.id) for one in claimed}


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


async def test_what_became_of_a_delivery_waits_for_nobody_who_writes_another(alice: Session, post: Post) -> None:
    hook = await add_webhook(alice, post)
    await alice.post(f"/webhooks/{hook['id']}/test")
    async with post.sessions.begin() as session:
        row = delivery_row(UUID(hook["id"]), "another", "trade.failed", {}, post.clock.now() + timedelta(days=1))
        assert await write(session, [row]) == 1
        await post.deliver()
        [told] = await deliveries(alice, hook)
        assert told["status"] == "delivered"


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
