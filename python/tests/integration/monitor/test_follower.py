"""Following a real chain: what is stored is what the chain has, near the head and far below it."""

import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from devstack.anvil import CHAIN_ID
from devstack.emitter import Emitter, echo_contract, event_topic, transfer_burst_contract, word
from tradingflow.db.models.chain import MonitoredContract
from tradingflow.monitor.catalogue import keep_abi
from tradingflow.monitor.decoder import EventRow
from tradingflow.monitor.reader import MOST_ADDRESSES
from tradingflow.monitor.store import Batch, ChainStore, CursorMoved

from .conftest import Follow
from .stored import Stored, catch_up

TRANSFER = event_topic("Transfer(address,address,uint256)")
HOLDER = "0x" + "ab" * 20


async def test_events_near_the_head_are_stored_decoded(follow: Follow, emitter: Emitter, stored: Stored) -> None:
    token = emitter.deploy(echo_contract(3))
    sent = emitter.emit(token, [TRANSFER, word(emitter.account), word(HOLDER)], word(10**24))
    await stored.monitor(token, "erc20")

    async with follow() as follower:
        await catch_up(follower)

    (event,) = await stored.events()
    assert (event.name, event.kind, event.transaction_hash) == ("Transfer", "erc20", sent)
    assert event.args["value"] == str(10**24)
    assert event.args["to"].lower() == HOLDER
    assert (await stored.cursor()).next_block == emitter.head + 1


async def test_backfill_and_head_store_the_same(follow: Follow, emitter: Emitter, stored: Stored) -> None:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(12):
        emitter.send(token, word(5) + word(100 * block))
        emitter.mine(3)
    await stored.monitor(token, "erc20")

    async with follow(finality_blocks=4) as follower:
        await catch_up(follower)

    events = await stored.events()
    assert [int(event.args["value"]) for event in events] == [100 * block + i for block in range(12) for i in range(5)]
    assert all(event.block_time for event in events)
    blocks = {block.number for block in await stored.blocks()}
    assert blocks == {event.block_number for event in events} | set(range(emitter.head - 4, emitter.head + 1))


async def test_more_contracts_than_a_node_takes_in_a_filter(
    follow: Follow, engine: AsyncEngine, emitter: Emitter, stored: Stored
) -> None:
    token, stranger = emitter.deploy(transfer_burst_contract()), emitter.deploy(transfer_burst_contract())
    for block in range(12):
        emitter.in_one_block([(stranger, word(2) + word(0)), (token, word(1) + word(block))])
        emitter.mine(1)
    await stored.monitor(token, "erc20")
    rows = [
        {"chain_id": CHAIN_ID, "address": f"0x{place:040x}", "kind": "erc20", "from_block": place % 7}
        for place in range(1, MOST_ADDRESSES + 1)
    ]
    async with engine.begin() as connection:
        await connection.execute(insert(MonitoredContract), rows)
    async with follow(finality_blocks=4) as follower:
        await catch_up(follower)

    assert [int(event.args["value"]) for event in await stored.events()] == list(range(12))
    assert [contract.is_proxy for contract in await stored.contracts()] == [False] * (MOST_ADDRESSES + 1)


async def test_a_malformed_log_is_stored_raw_with_its_reason(follow: Follow, emitter: Emitter, stored: Stored) -> None:
    token = emitter.deploy(echo_contract(3))
    dirty_address = b"\xff" * 32
    emitter.emit(token, [TRANSFER, dirty_address, word(HOLDER)], word(1))
    emitter.emit(token, [TRANSFER, word(HOLDER), word(HOLDER)], b"\x01\x02")
    emitter.emit(token, [event_topic("Unknown()"), word(1), word(2)], b"raw")
    emitter.emit(token, [TRANSFER, word(HOLDER), word(HOLDER)], word(7))
    await stored.monitor(token, "erc20")

    async with follow() as follower:
        await catch_up(follower)

    *malformed, good = await stored.events()
    assert [event.name for event in malformed] == [None] * 3
    assert all(event.args is None and event.undecoded_reason for event in malformed)
    assert malformed[0].topics == [TRANSFER, dirty_address, word(HOLDER)]
    assert malformed[1].data == b"\x01\x02"
    assert good.args["value"] == "7"


async def test_a_log_no_row_can_hold_is_stored_raw_and_the_chain_goes_on(
    follow: Follow, engine: AsyncEngine, emitter: Emitter, stored: Stored
) -> None:
    inputs = [{"name": "a", "type": "bytes[]"}]
    await keep_abi(engine, "swollen", json.dumps([{"type": "event", "name": "E", "inputs": inputs}]).encode())
    contract, topic = emitter.deploy(echo_contract(1)), event_topic("E(bytes[])")
    pointers, blob = 400, b"x" * 8_192
    shared = word(32) + word(pointers) + word(32 * pointers) * pointers + word(len(blob)) + blob
    emitter.emit(contract, [topic], shared)
    emitter.emit(contract, [topic], word(32) + word(1) + word(32) + word(1) + b"\x07".ljust(32, b"\0"))
    await stored.monitor(contract, "swollen")

    async with follow() as follower:
        await catch_up(follower)

    swollen, good = await stored.events()
    assert (swollen.name, swollen.args, swollen.data) == (None, None, shared)
    assert "pointers overlap" in swollen.undecoded_reason
    assert good.args == {"a": ["0x07"]}


async def test_arguments_larger_than_a_row_should_hold_are_left_out(
    follow: Follow, engine: AsyncEngine, emitter: Emitter, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tradingflow.monitor.decoder.MAX_ARGS_BYTES", 150)
    token = emitter.deploy(echo_contract(3))
    for value in (1, 2**255):
        emitter.emit(token, [TRANSFER, word(HOLDER), word(HOLDER)], word(value))
    await stored.monitor(token, "erc20")

    async with follow() as follower:
        await catch_up(follower)

    small, large = await stored.events()
    assert small.args["value"] == "1"
    assert (large.name, large.args) == (None, None)
    assert large.undecoded_reason == "its arguments take more than 150 bytes as JSON"


async def test_an_event_that_postgresql_refuses_stops_no_other(engine: AsyncEngine, stored: Stored) -> None:
    def row(log_index: int, args: bytes) -> EventRow:
        block, address = (7, log_index, b"\1" * 32, b"\2" * 32), b"\3" * 20
        return EventRow(CHAIN_ID, *block, address, "k", "E", args, None, [b"\4" * 32], b"\5", datetime.now(UTC))

    refused = (b'{"a": "\\u0000"}', b'{"a": ')
    rows = [row(place, b'{"a": 1}') for place in range(5)] + [
        row(5 + place, args) for place, args in enumerate(refused)
    ]
    store = ChainStore(engine, CHAIN_ID, finality_blocks=4)
    await store.prepare(0, [])
    await store.commit(Batch(CHAIN_ID, 0, 10, [], rows), head=20)

    *good, null, cut = await stored.events()
    assert [event.args for event in good] == [{"a": 1}] * 5
    for event in (null, cut):
        assert (event.name, event.args, event.data) == (None, None, b"\5")
        assert event.undecoded_reason.startswith("PostgreSQL cannot store its arguments: ")
    assert (await stored.cursor()).next_block == 10


async def test_a_second_monitor_changes_nothing(follow: Follow, emitter: Emitter, stored: Stored) -> None:
    token = emitter.deploy(transfer_burst_contract())
    emitter.send(token, word(5) + word(0))
    await stored.monitor(token, "erc20")

    async with follow() as first, follow() as second:
        await catch_up(first)
        await catch_up(second)
        emitter.send(token, word(5) + word(10))
        await catch_up(second)
        await first.run_once()
        await catch_up(first)

    assert len(await stored.events()) == 10


async def test_a_batch_that_does_not_start_at_the_cursor_is_refused(engine: AsyncEngine, stored: Stored) -> None:
    store = ChainStore(engine, CHAIN_ID, finality_blocks=4)
    await store.prepare(0, [])
    await store.commit(Batch(CHAIN_ID, 0, 10, [], []), head=20)
    for late in (Batch(CHAIN_ID, 0, 5, [], []), Batch(CHAIN_ID, 12, 14, [], [])):
        with pytest.raises(CursorMoved):
            await store.commit(late, head=20)
    assert (await stored.cursor()).next_block == 10
