"""A proxy's logs are read by the ABI of the implementation that stood behind it when it logged."""

import random
from typing import Any

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from devstack.anvil import Anvil
from devstack.emitter import Emitter, echo_contract, event_topic, word
from devstack.faulty_rpc import FaultyRpc
from tradingflow.chain.registry import AbiRegistry
from tradingflow.core.evm import parse_address
from tradingflow.db.models.chain import ContractAbi, ContractImplementation
from tradingflow.monitor.operation import Operation
from tradingflow.monitor.proxies import IMPLEMENTATION_SLOT
from tradingflow.monitor.store import ChainStore

from .conftest import Follow
from .stored import Stored, catch_up

MOVED, UPGRADED = event_topic("Moved(uint8)"), event_topic("Upgraded(address)")
FIRST, SECOND = parse_address("0x" + "a1" * 20), parse_address("0x" + "a2" * 20)


def moved(argument: str) -> list[dict[str, Any]]:
    """An ABI whose only difference is what it calls the argument."""
    return [{"type": "event", "name": "Moved", "inputs": [{"name": argument, "type": "uint8", "indexed": True}]}]


@pytest.fixture
async def proxy(engine: AsyncEngine, emitter: Emitter, stored: Stored) -> str:
    """A proxy of FIRST, which calls the argument `first`; SECOND calls it `second`."""
    async with engine.begin() as connection:
        abis = [{"kind": "one", "entries": moved("first")}, {"kind": "two", "entries": moved("second")}]
        await connection.execute(insert(ContractAbi), abis)
    await stored.monitor(FIRST, "one")
    await stored.monitor(SECOND, "two")
    proxy = emitter.deploy(echo_contract(2))
    set_slot(emitter, proxy, FIRST)
    return proxy


def set_slot(emitter: Emitter, proxy: str, implementation: str) -> None:
    emitter.anvil.rpc("anvil_setStorageAt", proxy, IMPLEMENTATION_SLOT, "0x" + word(implementation).hex())
    emitter.mine(1)


def move(proxy: str, to: int) -> tuple[str, bytes]:
    return proxy, MOVED + word(to)


def upgrade(proxy: str, implementation: str) -> tuple[str, bytes]:
    return proxy, UPGRADED + word(implementation)


async def implementations(engine: AsyncEngine) -> list[str]:
    query = select(ContractImplementation.implementation).order_by(
        ContractImplementation.block_number, ContractImplementation.log_index
    )
    async with engine.connect() as connection:
        return list(await connection.scalars(query))


async def test_an_upgrade_counts_from_its_very_log_on(
    proxy: str, follow: Follow, engine: AsyncEngine, emitter: Emitter, stored: Stored
) -> None:
    await stored.monitor(proxy, "not_known", from_block=emitter.head + 1)
    emitter.in_one_block([move(proxy, 1)])
    emitter.in_one_block([move(proxy, 2), upgrade(proxy, SECOND), move(proxy, 3)])
    async with follow(finality_blocks=4) as follower:
        await catch_up(follower)

    args = [event.args for event in await stored.events()]
    assert args == [{"first": 1}, {"first": 2}, {"implementation": SECOND}, {"second": 3}]
    assert await implementations(engine) == [FIRST, SECOND]


async def test_a_replaced_upgrade_is_undone(
    proxy: str, follow: Follow, engine: AsyncEngine, emitter: Emitter, stored: Stored
) -> None:
    await stored.monitor(proxy, "not_known", from_block=emitter.head + 1)
    emitter.in_one_block([move(proxy, 1)])
    async with follow(finality_blocks=4) as follower:
        await catch_up(follower)
        emitter.in_one_block([upgrade(proxy, SECOND)])
        emitter.in_one_block([move(proxy, 2)])
        await catch_up(follower)
        emitter.reorg(2, [(*move(proxy, 3), 0)])
        await catch_up(follower)

    assert [event.args for event in await stored.events()] == [{"first": 1}, {"first": 3}]
    assert await implementations(engine) == [FIRST]


async def test_a_late_proxy_is_read_right_also_before_its_past_is(
    proxy: str, follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    first = emitter.head + 1
    emitter.in_one_block([move(proxy, 1), upgrade(proxy, SECOND)])
    set_slot(emitter, proxy, SECOND)
    emitter.mine(10)
    async with follow(finality_blocks=4) as follower:
        await catch_up(follower)
        await stored.monitor(proxy, "not_known", from_block=first)
        emitter.in_one_block([move(proxy, 2)])
        await catch_up(follower)

    args = [event.args for event in await stored.events()]
    assert args == [{"first": 1}, {"implementation": SECOND}, {"second": 2}]


async def test_without_the_old_state_the_implementation_is_known_from_the_next_upgrade_on(
    proxy: str, follow: Follow, anvil: Anvil, emitter: Emitter, stored: Stored
) -> None:
    await stored.monitor(proxy, "not_known", from_block=emitter.head + 1)
    emitter.in_one_block([move(proxy, 1), upgrade(proxy, SECOND), move(proxy, 2)])
    rpc = FaultyRpc(anvil.url, random.Random(1), rate=1.0, faults=("no_state",))
    async with rpc.serving(), follow(rpc_urls=(rpc.url,)) as follower:
        await catch_up(follower)

    args = [event.args for event in await stored.events()]
    assert args == [None, {"implementation": SECOND}, {"second": 2}]


async def test_an_abi_given_later_is_used_by_redecode(
    proxy: str, follow: Follow, engine: AsyncEngine, emitter: Emitter, stored: Stored
) -> None:
    third = parse_address("0x" + "a3" * 20)
    await stored.monitor(proxy, "not_known", from_block=emitter.head + 1)
    emitter.in_one_block([upgrade(proxy, third), move(proxy, 1)])
    async with follow(finality_blocks=4) as follower:
        await catch_up(follower)
    await stored.monitor(third, "two")
    operation = Operation(engine, stored.chain_id, ChainStore(engine, stored.chain_id, 4), AbiRegistry())

    assert await operation.redecode() == (1, 1)
    assert (await stored.events())[-1].args == {"second": 1}


async def test_what_any_contract_may_log_is_decoded_whatever_its_kind(
    follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    token = emitter.deploy(echo_contract(3))
    emitter.emit(token, [event_topic("OwnershipTransferred(address,address)"), word(FIRST), word(SECOND)])
    await stored.monitor(token, "erc20")
    async with follow() as follower:
        await catch_up(follower)

    (event,) = await stored.events()
    assert (event.kind, event.name) == ("erc20", "OwnershipTransferred")
    assert event.args == {"previousOwner": FIRST, "newOwner": SECOND}
