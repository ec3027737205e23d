"""What starts cycles besides time: webhooks, contract events, a person."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, func, select, text, update

from tests.integration.worker.conftest import Client, StartWorker, tasks_by_node, until
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import ChainCursor, Cycle, Flow, FlowHook, MonitoredContract, Schedule, TriggerEvent
from tradingflow.messaging.broker import Broker
from tradingflow.messaging.chain_messages import ChainEvent, ChainEventReverted
from tradingflow.messaging.topology import CHAIN_EVENTS, CHAIN_EVENTS_FINAL, chain_event_routing_key
from tradingflow.py_worker.parts import Parts
from tradingflow.py_worker.trigger_events import take_back

POOL = "0x88e6A0c2dDD26FEEb64F039a2c41296FcB3f5640"
BLOCK = 7
# Of PostgreSQL's protocol, as asyncpg speaks it.
MOST_PARAMETERS = 32_767
# With five parameters each, they are too many.
CROWD_FLOWS = MOST_PARAMETERS // 5 + 1
CROWD = """
WITH flow AS (SELECT * FROM flows), schedule AS (SELECT * FROM schedules), more AS (
    INSERT INTO flows (id, user_id, flow_id, status, mode, current_version)
    SELECT gen_random_uuid(), user_id, flow_id || number, status, mode, current_version
    FROM flow, generate_series(1, :others) number RETURNING id
)
INSERT INTO schedules (flow_pk, trigger, next_cycle, overlap, misfire)
SELECT id, trigger, next_cycle, overlap, misfire FROM more, schedule
"""
TOLD = [{"id": "told", "type": "told"}]
STUCK = [{"id": "stuck", "type": "sleep", "config": {"seconds": 60}}]
WEBHOOK: dict[str, Any] = {"cycle_interval": None, "trigger": {"type": "webhook"}}


async def hook_of(client: Client, flow_id: str, **more: Any) -> str:
    await client.execute(flow_id, TOLD, [], **(WEBHOOK | more))
    path: str = (await client.ok("POST", f"/flows/{flow_id}/hook"))["path"]
    return path


async def call(client: Client, path: str, **more: Any) -> httpx.Response:
    """As the world outside calls it: without any sign-in."""
    return await client.http.post(path, **more)


async def events(client: Client, flow_id: str) -> list[Any]:
    found: list[Any] = (await client.ok("GET", f"/flows/{flow_id}/trigger-events"))["items"]
    return found


async def test_a_webhook_call_starts_a_cycle_that_sees_the_body(client: Client) -> None:
    path = await hook_of(client, "hooked")
    answer = await call(client, path, json={"signal": "buy", "size": "12"})
    assert answer.status_code == 202
    cycle = await client.cycle_end("hooked")
    assert (cycle["trigger"], cycle["status"]) == ("webhook", "completed")
    told = tasks_by_node(cycle)["told"]["outputs"]["value"]
    assert told == {"kind": "webhook", "payload": {"signal": "buy", "size": "12"}}
    (event,) = await events(client, "hooked")
    assert (event["id"], event["status"], event["cycle"]) == (answer.json()["event_id"], "started", 0)


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"", None),
        (b"ETH crossed 2000", "ETH crossed 2000"),
        (b"[1,", "[1,"),
        (b'"\\ud800"', '"\\ud800"'),
        (b"\xff", "\ufffd"),
    ],
)
async def test_a_webhook_takes_what_alerts_send(client: Client, body: bytes, payload: Any) -> None:
    path = await hook_of(client, "alerted")
    assert (await call(client, path, content=body)).status_code == 202
    cycle = await client.cycle_end("alerted")
    assert tasks_by_node(cycle)["told"]["outputs"]["value"]["payload"] == payload


@pytest.mark.parametrize("body", [b'"\\u0000"', b"[" * 100 + b"]" * 100, b'"' + b"a" * 300_000 + b'"'])
async def test_a_webhook_body_nothing_can_hold_is_a_422(client: Client, body: bytes) -> None:
    path = await hook_of(client, "refusing")
    answer = await call(client, path, content=body)
    assert answer.status_code in (413, 422), answer.text
    assert await events(client, "refusing") == []


async def test_the_same_idempotency_key_starts_one_cycle(client: Client, sessions: SessionFactory) -> None:
    path = await hook_of(client, "once", overlap="queue")
    answers = await asyncio.gather(*(call(client, path, headers={"Idempotency-Key": "order-7"}) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["event_id"] for answer in answers}) == 1
    await client.cycle_end("once")
    await call(client, path, headers={"Idempotency-Key": "order-8"})
    await client.cycle_end("once", 1)
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Cycle)) == 2


async def test_queued_calls_run_one_after_another_in_order(client: Client) -> None:
    path = await hook_of(client, "queued", overlap="queue")
    for number in range(5):
        await call(client, path, json=number)
    for number in range(5):
        cycle = await client.cycle_end("queued", number)
        assert tasks_by_node(cycle)["told"]["outputs"]["value"]["payload"] == number


async def test_calls_during_an_open_cycle_are_skipped_visibly_by_default(client: Client) -> None:
    await client.execute("busy", STUCK, [], **WEBHOOK)
    path = (await client.ok("POST", "/flows/busy/hook"))["path"]
    await call(client, path)
    await until(lambda: _statuses(client, "busy", ["started"]))
    await call(client, path)
    assert await until(lambda: _statuses(client, "busy", ["skipped", "started"]))
    assert (await events(client, "busy"))[0]["reason"] == "the cycle before was still open"
    await client.ok("POST", "/flows/busy/stop")


async def test_replace_ends_the_open_cycle_for_the_call(client: Client) -> None:
    await client.execute("latest", STUCK, [], **WEBHOOK, overlap="replace")
    path = (await client.ok("POST", "/flows/latest/hook"))["path"]
    await call(client, path)
    await until(lambda: _statuses(client, "latest", ["started"]))
    await call(client, path)
    assert (await client.cycle_end("latest", 0))["status"] == "terminated"
    await until(lambda: _statuses(client, "latest", ["started", "started"]))
    await client.ok("POST", "/flows/latest/stop")


async def _statuses(client: Client, flow_id: str, expected: list[str]) -> bool:
    return [event["status"] for event in await events(client, flow_id)] == expected


async def test_a_token_is_kept_as_a_hash_and_dies_when_it_is_renewed_or_revoked(
    client: Client, sessions: SessionFactory
) -> None:
    old = await hook_of(client, "renewed")
    new = (await client.ok("POST", "/flows/renewed/hook"))["path"]
    assert (await call(client, old)).status_code == 404
    assert (await call(client, new)).status_code == 202
    async with sessions() as session:
        (stored,) = await session.scalars(select(FlowHook.token_hash))
    assert new.rsplit("/", 1)[1].encode() not in stored
    assert (await client.http.delete("/flows/renewed/hook", headers=client.headers)).status_code == 204
    assert (await call(client, new)).status_code == 404


async def test_a_stopped_flow_takes_no_calls_and_what_waited_is_skipped(
    client: Client, sessions: SessionFactory
) -> None:
    path = await hook_of(client, "ended", overlap="queue")
    await client.ok("POST", "/flows/ended/pause")
    await call(client, path)
    await client.ok("POST", "/flows/ended/stop")
    assert [event["status"] for event in await events(client, "ended")] == ["skipped"]
    refused = await call(client, path)
    assert (refused.status_code, refused.json()["error"]) == (409, "flow_not_running")


async def test_a_backlog_of_calls_is_a_429(
    client: Client, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradingflow.py_worker.flows.trigger_endpoints.MAX_PENDING", 2)
    path = await hook_of(client, "flooded")
    await client.ok("POST", "/flows/flooded/pause")
    assert [(await call(client, path)).status_code for _ in range(3)] == [202, 202, 429]


@pytest.mark.parametrize(
    ("interval", "trigger", "code"),
    [
        (None, None, "invalid_interval"),
        ("5m", {"type": "webhook"}, "invalid_trigger"),
        ("5m", {"type": "cron"}, "invalid_trigger"),
        ("*/5 * * * * UTC", {"type": "interval"}, "invalid_trigger"),
        (None, {"type": "interval"}, "invalid_interval"),
        (None, {"type": "phase_of_moon"}, "invalid_request"),
        (None, {"type": "contract_event", "chain_id": 1, "address": "0x12"}, "invalid_request"),
        (None, {"type": "contract_event", "chain_id": 1, "address": POOL}, "contract_not_monitored"),
    ],
)
async def test_a_trigger_that_cannot_be_is_a_422(client: Client, interval: Any, trigger: Any, code: str) -> None:
    body = {"flow_id": "f", "cycle_interval": interval, "trigger": trigger, "flow_json": {"nodes": TOLD, "edges": []}}
    answer = await client.post("/flows/execute", body)
    assert (answer.status_code, answer.json()["error"]) == (422, code), answer.text
    assert (await client.get("/flows/f")).status_code == 404


async def test_a_manual_flow_runs_when_asked_and_sees_the_payload(client: Client) -> None:
    await client.execute("by_hand", TOLD, [], cycle_interval=None, trigger={"type": "manual"})
    started = await client.ok("POST", "/flows/by_hand/cycles", {"payload": {"why": "test"}})
    assert started["cycle"] == 0
    cycle = await client.cycle_end("by_hand")
    told = tasks_by_node(cycle)["told"]["outputs"]["value"]
    assert told == {"kind": "manual", "payload": {"why": "test"}}


async def test_a_running_flow_follows_its_new_trigger(client: Client) -> None:
    await client.execute("changing", TOLD, [], cycle_interval="1h")
    flow = {"nodes": TOLD, "edges": []}
    body = {"flow_id": "changing", "cycle_interval": None, "trigger": {"type": "manual"}, "flow_json": flow}
    assert (await client.ok("PUT", "/flows/changing", body))["next_fire_at"] is None
    body = {"flow_id": "changing", "cycle_interval": "2h", "flow_json": flow}
    assert (await client.ok("PUT", "/flows/changing", body))["next_fire_at"] is not None


@pytest.mark.parametrize("trigger", [{"type": "manual"}, {"type": "webhook"}])
async def test_what_waited_for_a_trigger_that_is_no_longer_there_does_not_run(
    client: Client, trigger: dict[str, Any]
) -> None:
    """With the same trigger as before it does."""
    path = await hook_of(client, "turned", overlap="queue")
    await client.ok("POST", "/flows/turned/pause")
    await call(client, path)
    body = {"flow_id": "turned", "cycle_interval": None, "trigger": trigger, "overlap": "queue"}
    await client.ok("PUT", "/flows/turned", {**body, "flow_json": {"nodes": TOLD, "edges": []}})
    found = [(event["status"], event["reason"]) for event in await events(client, "turned")]
    await client.ok("POST", "/flows/turned/resume")
    if trigger["type"] == "webhook":
        assert found == [("pending", None)]
        assert (await client.cycle_end("turned"))["trigger"] == "webhook"
    else:
        assert found == [("skipped", "the flow's trigger was changed")]


async def test_an_event_recorded_while_its_trigger_was_being_changed_does_not_run(
    client: Client, sessions: SessionFactory
) -> None:
    await client.execute("turned", TOLD, [], cycle_interval=None, trigger={"type": "manual"})
    async with sessions.begin() as session:
        flow = (await session.scalars(select(Flow))).one()
        session.add(TriggerEvent(flow_pk=flow.id, kind="webhook", dedupe_key="k", status="pending"))
    assert await until(lambda: _statuses(client, "turned", ["skipped"]))
    assert (await events(client, "turned"))[0]["reason"] == "the flow's trigger was changed"
    assert (await client.ok("GET", "/flows/turned/cycles"))["items"] == []


async def test_an_event_recorded_while_its_flow_was_being_stopped_does_not_run_when_it_starts_again(
    client: Client, sessions: SessionFactory
) -> None:
    await hook_of(client, "halted")
    await client.ok("POST", "/flows/halted/stop")
    async with sessions.begin() as session:
        flow = (await session.scalars(select(Flow))).one()
        session.add(TriggerEvent(flow_pk=flow.id, kind="webhook", dedupe_key="k", status="pending"))
    await client.ok("POST", "/flows/halted/start")
    assert [(event["status"], event["reason"]) for event in await events(client, "halted")] == [
        ("skipped", "the flow was stopped")
    ]


@pytest.fixture
async def monitored(sessions: SessionFactory) -> None:
    async with sessions.begin() as session:
        session.add(MonitoredContract(chain_id=1, address=POOL, kind="uniswap_v3_pool", from_block=0))
        cursor = ChainCursor(chain_id=1, next_block=BLOCK, next_final_block=0, updated_at=datetime.now(UTC))
        session.add(cursor)


@pytest.fixture
async def broker(worker: FastAPI) -> Any:
    parts: Parts = worker.state.parts
    async with Broker(parts.settings.rabbitmq_dsn, name="test", partitions=parts.settings.cycle_partitions) as broker:
        yield broker


def swap(log_index: int, name: str = "Swap", number: int = BLOCK) -> ChainEvent:
    block = f"0x{number:064x}"
    event_id = f"1:{block}:{log_index}"
    at = datetime(2026, 1, 1, tzinfo=UTC)
    args = {"amount0": "-5"}
    return ChainEvent(event_id, 1, number, block, "0x" + "cd" * 32, log_index, POOL, "uniswap_v3_pool", name, args, at)


def reverted(event: ChainEvent) -> ChainEventReverted:
    return ChainEventReverted(**{name: getattr(event, name) for name in ChainEventReverted.__struct_fields__})


async def tell(broker: Broker, exchange: str, message: ChainEvent | ChainEventReverted) -> None:
    key = chain_event_routing_key(1, message.kind, message.address, message.name)
    body = msgspec.json.encode(message)
    await broker.publish(exchange, key, body, message_id=message.event_id, mandatory=False)


def on_swaps(**more: Any) -> dict[str, Any]:
    trigger = {"type": "contract_event", "chain_id": 1, "address": POOL.lower(), "event": "Swap", **more}
    return {"cycle_interval": None, "trigger": trigger, "overlap": "queue"}


@pytest.mark.usefixtures("monitored")
async def test_a_contract_event_starts_one_cycle_however_often_it_is_told(client: Client, broker: Broker) -> None:
    await client.execute("on_swaps", TOLD, [], **on_swaps())
    for _ in range(3):
        await tell(broker, CHAIN_EVENTS_FINAL, swap(1))
    await tell(broker, CHAIN_EVENTS_FINAL, swap(2, "Mint"))
    await tell(broker, CHAIN_EVENTS, swap(3))  # not final
    await tell(broker, CHAIN_EVENTS_FINAL, swap(4))
    first, second = await client.cycle_end("on_swaps", 0), await client.cycle_end("on_swaps", 1)
    payloads = [tasks_by_node(cycle)["told"]["outputs"]["value"]["payload"] for cycle in (first, second)]
    assert [payload["log_index"] for payload in payloads] == [1, 4]
    assert payloads[0]["args"] == {"amount0": "-5"}
    assert first["trigger"] == "contract_event"
    assert len(await events(client, "on_swaps")) == 2


@pytest.mark.usefixtures("monitored")
async def test_what_happened_before_a_flow_listened_starts_nothing(
    client: Client, broker: Broker, sessions: SessionFactory
) -> None:
    """Before it was started, before it was started again, and before it had this trigger."""

    async def news_from(number: int) -> list[int]:
        """Of the blocks before and from this one, those whose event starts a cycle."""
        for block in (number - 1, number):
            await tell(broker, CHAIN_EVENTS_FINAL, swap(1, number=block))
        started = await client.cycle_end("from_now", len(heard))
        heard.append(tasks_by_node(started)["told"]["outputs"]["value"]["payload"]["block_number"])
        return heard

    heard: list[int] = []
    await client.execute("from_now", TOLD, [], **on_swaps())
    assert await news_from(BLOCK) == [BLOCK]
    await client.ok("POST", "/flows/from_now/stop")
    await set_next_block(sessions, 100)
    await client.ok("POST", "/flows/from_now/start")
    assert await news_from(100) == [BLOCK, 100]
    await set_next_block(sessions, 200)
    body = {"flow_id": "from_now", "flow_json": {"nodes": TOLD, "edges": []}, **on_swaps(event=None)}
    await client.ok("PUT", "/flows/from_now", body)
    assert await news_from(200) == [BLOCK, 100, 200]
    assert len(await events(client, "from_now")) == len(heard)


@pytest.mark.usefixtures("monitored")
async def test_a_flow_that_listens_already_misses_nothing_when_it_is_executed_again(
    client: Client, broker: Broker, sessions: SessionFactory
) -> None:
    """The event is stored by then, and on its way."""
    await client.execute("again", TOLD, [], **on_swaps())
    await set_next_block(sessions, 100)
    await client.execute("again", TOLD, [], **on_swaps())
    await tell(broker, CHAIN_EVENTS_FINAL, swap(1, number=99))
    assert (await client.cycle_end("again"))["status"] == "completed"


async def test_a_chain_the_monitor_has_not_begun_with_is_a_422(
    client: Client, sessions: SessionFactory, monitored: None
) -> None:
    async with sessions.begin() as session:
        await session.execute(delete(ChainCursor))
    body = {"flow_id": "early", "flow_json": {"nodes": TOLD, "edges": []}, **on_swaps()}
    answer = await client.post("/flows/execute", body)
    assert (answer.status_code, answer.json()["error"]) == (422, "contract_not_monitored")


async def set_next_block(sessions: SessionFactory, number: int) -> None:
    async with sessions.begin() as session:
        await session.execute(update(ChainCursor).values(next_block=number))


@pytest.mark.usefixtures("monitored")
async def test_an_event_a_reorg_took_back_starts_nothing_any_more(client: Client, broker: Broker) -> None:
    await client.execute("early", TOLD, [], **on_swaps(final=False))
    await client.ok("POST", "/flows/early/pause")
    event = swap(1)
    await tell(broker, CHAIN_EVENTS, event)
    await until(lambda: _statuses(client, "early", ["pending"]))
    await tell(broker, CHAIN_EVENTS, reverted(event))
    await until(lambda: _statuses(client, "early", ["skipped"]))
    await client.ok("POST", "/flows/early/resume")
    assert (await client.ok("GET", "/flows/early/cycles"))["items"] == []


@pytest.mark.usefixtures("monitored")
async def test_an_event_that_comes_back_after_a_reorg_starts_one_cycle(client: Client, broker: Broker) -> None:
    await client.execute("again", TOLD, [], **on_swaps(final=False))
    await client.ok("POST", "/flows/again/pause")
    event = swap(1)
    for message, status in ((event, "pending"), (reverted(event), "skipped"), (event, "pending")):
        await tell(broker, CHAIN_EVENTS, message)
        await until(lambda status=status: _statuses(client, "again", [status]))  # type: ignore[misc]
    await client.ok("POST", "/flows/again/resume")
    await client.cycle_end("again")
    await tell(broker, CHAIN_EVENTS, event)
    await tell(broker, CHAIN_EVENTS, swap(2))
    await client.cycle_end("again", 1)
    told = await events(client, "again")
    assert [(event["status"], event["reason"], event["cycle"]) for event in told] == [
        ("started", None, 1),
        ("started", None, 0),
    ]


@pytest.mark.usefixtures("monitored")
async def test_contract_events_past_a_backlog_are_skipped_visibly(
    client: Client, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is one that a reorg took back and that finds its place taken when it returns."""
    monkeypatch.setattr("tradingflow.py_worker.trigger_events.MAX_PENDING", 2)
    await client.execute("flooded", TOLD, [], **on_swaps(final=False))
    await client.ok("POST", "/flows/flooded/pause")
    for message in (swap(1), swap(2), swap(3), reverted(swap(1)), swap(4), swap(1)):
        await tell(broker, CHAIN_EVENTS, message)
    full = "2 events wait for this flow already"
    expected = [(4, None), (3, full), (2, None), (1, full)]
    await until(lambda: _reasons(client, "flooded", expected))
    assert await _statuses(client, "flooded", ["pending", "skipped", "pending", "skipped"])
    await client.ok("POST", "/flows/flooded/resume")
    await client.cycle_end("flooded", 1)
    await tell(broker, CHAIN_EVENTS, swap(5))
    await client.cycle_end("flooded", 2)


async def _reasons(client: Client, flow_id: str, expected: list[tuple[int, str | None]]) -> bool:
    told = await events(client, flow_id)
    return [(event["payload"]["log_index"], event["reason"]) for event in told] == expected


@pytest.mark.usefixtures("monitored")
async def test_events_told_while_no_worker_is_there_are_not_lost(
    start_worker: StartWorker, add_user: Callable[[], Any], settings: Any
) -> None:
    user: UUID = await add_user()
    async with start_worker() as app, _client(app, user) as client:
        await client.execute("kept", TOLD, [], **on_swaps())
    async with Broker(settings.rabbitmq_dsn, name="test", partitions=settings.cycle_partitions) as broker:
        await tell(broker, CHAIN_EVENTS_FINAL, swap(1))
    async with start_worker() as app, _client(app, user) as client:
        assert (await client.cycle_end("kept"))["status"] == "completed"


@pytest.mark.usefixtures("monitored")
async def test_an_event_reaches_more_flows_than_a_statement_has_parameters(
    client: Client, broker: Broker, sessions: SessionFactory
) -> None:
    """So does the next one. The flows are paused: nothing starts."""
    await client.execute("crowd", TOLD, [], **on_swaps())
    await client.ok("POST", "/flows/crowd/pause")
    async with sessions.begin() as session:
        await session.execute(text(CROWD), {"others": CROWD_FLOWS - 1})
    for number in (1, 2):
        await tell(broker, CHAIN_EVENTS_FINAL, swap(number))
        await until(lambda number=number: _count_pending(sessions, number * CROWD_FLOWS))  # type: ignore[misc]


async def test_an_event_is_taken_back_from_more_flows_than_a_statement_has_parameters(sessions: SessionFactory) -> None:
    async with sessions.begin() as session:
        await take_back(session, "k", [uuid4()] * (MOST_PARAMETERS + 1))


async def _count_pending(sessions: SessionFactory, count: int) -> bool:
    async with sessions() as session:
        return await session.scalar(select(func.count()).where(TriggerEvent.status == "pending")) == count


class _client:  # noqa: N801 - reads as a function
    def __init__(self, app: FastAPI, user: UUID) -> None:
        transport = httpx.ASGITransport(app=app)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://worker")
        self._user = user

    async def __aenter__(self) -> Client:
        return Client(self._http, self._user)

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()


async def test_schedulers_that_race_start_one_cycle_an_event(
    client: Client, worker: FastAPI, sessions: SessionFactory, settings: Any
) -> None:
    """Ten schedulers at once, twenty flows with an event each."""
    parts: Parts = worker.state.parts
    for number in range(20):
        await client.execute(f"raced{number}", TOLD, [], **WEBHOOK)
    async with sessions.begin() as session:
        for flow in await session.scalars(select(Flow)):
            session.add(TriggerEvent(flow_pk=flow.id, kind="webhook", dedupe_key="k", status="pending"))
    served = await asyncio.gather(*(parts.scheduler.serve_events() for _ in range(10)))
    assert sum(served) <= 20
    await until(lambda: _all_started(sessions))
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Cycle)) == 20


async def _all_started(sessions: SessionFactory) -> bool:
    async with sessions() as session:
        pending = select(func.count()).where(TriggerEvent.status != "started")
        return not await session.scalar(pending)


async def test_a_due_flow_whose_cycle_opened_before_the_lock_is_not_doubled(
    client: Client, sessions: SessionFactory, worker: FastAPI
) -> None:
    """As when a person starts a cycle between the query that finds the flow due and its lock."""
    parts: Parts = worker.state.parts
    await client.execute("raced", STUCK, [], cycle_interval="1h", overlap="queue")
    await until(lambda: _open(sessions, 1))
    async with sessions.begin() as session:
        schedule = (await session.scalars(select(Schedule))).one()
        schedule.next_fire_at = parts.clock.now()
        assert await parts.scheduler._serve(session, [schedule], parts.clock.now()) == 0
    assert await _open(sessions, 1)
    await client.ok("POST", "/flows/raced/stop")


async def _open(sessions: SessionFactory, count: int) -> bool:
    async with sessions() as session:
        return await session.scalar(select(func.count()).where(Cycle.status == "running")) == count
