"""Contracts added late: their past is read, and so is that of the children it announces."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from devstack.anvil import CHAIN_ID
from devstack.emitter import Emitter, echo_contract, event_topic, transfer_burst_contract, word
from tradingflow.core.evm import parse_address
from tradingflow.monitor.proxies import Implementation
from tradingflow.monitor.store import Batch, ChainStore, CursorMoved

from .conftest import Follow
from .stored import Stored, catch_up

VAULT_CREATED = event_topic("VaultCreated(address,address)")
TOKEN = parse_address("0x" + "bb" * 20)


def stores(engine: AsyncEngine) -> tuple[ChainStore, ChainStore]:
    """Of two Monitors on one chain."""
    return ChainStore(engine, CHAIN_ID, finality_blocks=4), ChainStore(engine, CHAIN_ID, finality_blocks=4)


async def test_the_past_of_a_late_contract_is_complete(follow: Follow, emitter: Emitter, stored: Stored) -> None:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(20):
        emitter.send(token, word(3) + word(3 * block))
    async with follow(finality_blocks=6) as follower:
        await catch_up(follower)
        assert await stored.events() == []
        await stored.monitor(token, "erc20")
        emitter.send(token, word(3) + word(60))
        was_there_s = follower.last_at_head_s
        assert await follower.round() == 0.0  # much of the past is still missing
        assert follower.last_at_head_s > was_there_s
        await catch_up(follower)

    assert [int(event.args["value"]) for event in await stored.events()] == list(range(63))


async def test_children_of_a_late_factory_are_followed_from_their_creation(
    follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    factory = emitter.deploy(echo_contract(3))
    child = emitter.deploy(echo_contract(1))
    paused, unpaused = event_topic("Paused()"), event_topic("Unpaused()")
    created = VAULT_CREATED + word(emitter.account) + word(child)
    emitter.send(child, unpaused)  # before its creation: not ours
    emitter.in_one_block([(child, paused), (factory, created), (child, unpaused)])
    emitter.mine(10)
    emitter.send(child, paused)
    async with follow(finality_blocks=4) as follower:
        await catch_up(follower)
        await stored.monitor(factory, "vault_factory")
        await catch_up(follower)
        emitter.send(child, unpaused)
        await catch_up(follower)

    names = [event.name for event in await stored.events()]
    assert names == ["Paused", "VaultCreated", "Unpaused", "Paused", "Unpaused"]


async def test_a_reorg_undoes_the_past_that_was_read_from_it(follow: Follow, emitter: Emitter, stored: Stored) -> None:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(6):
        emitter.send(token, word(1) + word(block))
    async with follow(finality_blocks=8) as follower:
        await catch_up(follower)
        await stored.monitor(token, "erc20")
        await catch_up(follower)
        emitter.reorg(3, [(token, word(2) + word(100), 1)])
        await catch_up(follower)

    assert [int(event.args["value"]) for event in await stored.events()] == [0, 1, 2, 100, 101]


async def test_a_reorg_in_the_middle_of_reading_the_past_doubles_nothing(
    follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(8):
        emitter.send(token, word(1) + word(block))
    async with follow(finality_blocks=3) as follower:
        await catch_up(follower)
        await stored.monitor(token, "erc20")
        await follower.round()  # reads what is settled; the blocks near the head are still missing
        assert [int(event.args["value"]) for event in await stored.events()] == [0, 1, 2, 3]
        emitter.reorg(2, [(token, word(1) + word(100), 1)])
        await catch_up(follower)

    assert [int(event.args["value"]) for event in await stored.events()] == [0, 1, 2, 3, 4, 5, 100]


async def test_a_contract_one_monitor_took_up_is_missed_by_no_other(
    follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    token = emitter.deploy(transfer_burst_contract())
    async with follow() as one, follow() as other:
        await catch_up(one)
        await stored.monitor(token, "erc20")
        await catch_up(other)
        emitter.send(token, word(3) + word(0))
        await one.run_once()  # nothing waits to be taken up, as far as it can see
        await catch_up(one)
        emitter.send(token, word(3) + word(3))
        await other.run_once()
        await catch_up(other)

    assert [int(event.args["value"]) for event in await stored.events()] == list(range(6))


async def test_a_child_one_monitor_found_in_the_past_is_missed_by_no_other(
    follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    factory = emitter.deploy(echo_contract(3))
    child = emitter.deploy(echo_contract(1))
    emitter.mine(10)
    emitter.send(factory, VAULT_CREATED + word(emitter.account) + word(child))
    paused = event_topic("Paused()")
    async with follow(finality_blocks=4) as one, follow(finality_blocks=4) as other:
        await catch_up(one)
        await stored.monitor(factory, "vault_factory")
        await one.round()  # reads what is settled; the blocks near the head are still missing
        await catch_up(other)
        emitter.send(child, paused)
        await one.run_once()
        await catch_up(one)

    assert [event.name for event in await stored.events()] == ["VaultCreated", "Paused"]


async def test_contracts_are_taken_up_where_the_chain_is_stored_to(
    follow: Follow, engine: AsyncEngine, emitter: Emitter, stored: Stored
) -> None:
    late = ChainStore(engine, CHAIN_ID, finality_blocks=4)
    async with follow() as follower:
        await catch_up(follower)
        behind = (await late.cursor()).next_block
        emitter.mine(3)
        await catch_up(follower)
    with pytest.raises(CursorMoved):
        await late.adopt(behind)


async def test_who_goes_on_with_what_he_loaded_hears_of_what_others_took_up(
    engine: AsyncEngine, stored: Stored
) -> None:
    one, other = stores(engine)
    await one.prepare(0, [])
    await one.adopt(0)
    await stored.monitor(TOKEN, "erc20")
    await other.adopt(0)
    with pytest.raises(CursorMoved):
        await one.adopt(0, since_load=True)
    assert len(await one.adopt(0)) == 1


async def test_a_past_is_read_on_with_the_upgrades_another_found_in_it(engine: AsyncEngine, stored: Stored) -> None:
    one, other = stores(engine)
    await one.prepare(0, [])
    await one.commit(Batch(CHAIN_ID, 0, 10, [], []), head=20)
    await stored.monitor(TOKEN, "erc20")
    contracts = await one.adopt(10)
    await other.adopt(10)
    upgrade = Implementation(TOKEN, 3, 0, parse_address("0x" + "a1" * 20))
    await one.commit_history(Batch(CHAIN_ID, 0, 5, [], [], upgrades=[upgrade]), contracts, 10)
    with pytest.raises(CursorMoved):
        await other.commit_history(Batch(CHAIN_ID, 5, 10, [], []), contracts, 10)
