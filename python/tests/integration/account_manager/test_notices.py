"""What is told of: contract events, taken back after a reorg, trades and withdrawals."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, update

from devstack.anvil import CHAIN_ID
from tests.integration.account_manager.conftest import Session
from tests.integration.account_manager.notices import (
    HEAD,
    Post,
    add_webhook,
    deliveries,
    monitored,
    roll_back,
    store,
    subscribe,
)
from tests.integration.account_manager.notices import post as post  # noqa: PLC0414 - the fixture
from tests.integration.account_manager.test_history_routes import VAULT, event, trade
from tests.integration.account_manager.test_history_routes import flow as flow  # noqa: PLC0414 - the fixture
from tests.integration.local_server import server as server  # noqa: PLC0414 - the fixture
from tradingflow.account_manager.notification.collector import AT_ONCE
from tradingflow.db.models import MonitoredContract, NotificationCursor, NotificationDelivery, Plan


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


async def test_a_block_full_of_movements_is_told_whole_and_holds_up_nothing(
    alice: Session, post: Post, flow: UUID
) -> None:
    hook = await add_webhook(alice, post, topics=["vault.deposit", "vault.withdrawal"])
    await post.collect()
    movements = [(HEAD, n, "UserDeposit") for n in range(AT_ONCE + 1)] + [(HEAD + 1, 0, "UserWithdraw")]
    async with post.sessions.begin() as session:
        for block, log_index, name in reversed(movements):
            moved = event(VAULT, block, name)
            moved.log_index, moved.block_time = log_index, post.clock.now()
            session.add(moved)
    await store(post.sessions, head=HEAD + 30, final=HEAD + 20)
    await post.collect()
    told = select(NotificationDelivery.payload).where(NotificationDelivery.channel_id == UUID(hook["id"]))
    async with post.sessions() as session:
        payloads = list(await session.scalars(told.order_by(NotificationDelivery.created_at)))
        cursor = await session.get_one(NotificationCursor, f"vaults:{CHAIN_ID}")
    assert [(p["block_number"], p["log_index"], p["name"]) for p in payloads] == movements
    assert cursor.next_block == HEAD + 20


async def test_deposits_by_whomever_leave_the_plan_to_what_matters(alice: Session, post: Post, flow: UUID) -> None:
    hook = await add_webhook(alice, post, topics=["vault.deposit", "vault.withdrawal"])
    await post.collect()
    async with post.sessions.begin() as session:
        await session.execute(update(Plan).values(notices_per_day=10))
        for block, name in [(HEAD, "UserDeposit")] * 12 + [(HEAD + 1, "UserWithdraw"), (HEAD + 2, "UserDeposit")]:
            moved = event(VAULT, block, name)
            moved.log_index, moved.block_time = len(session.new), post.clock.now()
            session.add(moved)
    for final in (HEAD + 1, HEAD + 20):
        await store(post.sessions, head=HEAD + 30, final=final)
        await post.collect()
    told = select(NotificationDelivery.topic).where(NotificationDelivery.channel_id == UUID(hook["id"]))
    async with post.sessions() as session:
        topics = list(await session.scalars(told.order_by(NotificationDelivery.created_at)))
    assert topics == ["vault.deposit", "vault.deposit", "vault.withdrawal"]
    assert (await alice.get(f"/webhooks/{hook['id']}")).json()["status"] == "active"


async def test_a_flood_of_events_pauses_only_the_channel_that_subscribed(
    alice: Session, post: Post, flow: UUID
) -> None:
    flooded = await add_webhook(alice, post)
    trades = await add_webhook(alice, post, url=post.receiver.url("/trades"), topics=["trade.failed"])
    await subscribe(alice, flooded)
    await post.collect()
    async with post.sessions.begin() as session:
        await session.execute(update(Plan).values(notices_per_day=4))
    await store(post.sessions, *range(HEAD, HEAD + 5), head=HEAD + 9, final=HEAD + 9)
    await post.collect()
    assert await statuses(alice, flooded, trades) == ["paused", "active"]
    for cycle, both in ((1, ["paused", "active"]), (2, ["paused", "paused"])):
        async with post.sessions.begin() as session:
            for node in range(2):
                failed = trade(alice.user_id, flow, 2 * cycle + node, settled_at=post.clock.now(), status="failed")
                session.add(failed)
        await post.collect()
        assert await statuses(alice, flooded, trades) == both
        post.later(timedelta(seconds=1))
    assert [told["topic"] for told in await deliveries(alice, trades)] == ["trade.failed"] * 4


async def statuses(session: Session, *hooks: dict[str, Any]) -> list[str]:
    return [(await session.get(f"/webhooks/{hook['id']}")).json()["status"] for hook in hooks]


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
