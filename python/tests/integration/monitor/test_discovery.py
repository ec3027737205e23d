"""Contracts a factory announces are followed from their creation block, same transaction included."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from devstack.anvil import CHAIN_ID, Anvil
from devstack.emitter import Emitter, echo_contract, event_topic, swap_burst_contract, transfer_burst_contract, word
from devstack.faulty_rpc import FaultyRpc
from devstack.vaults import deploy_factory
from tradingflow.chain.client import ChainClient
from tradingflow.chain.rpc import Distrusted
from tradingflow.core.config import ChainSettings
from tradingflow.core.errors import InvalidInput, TradingFlowError
from tradingflow.core.evm import ZERO_ADDRESS, parse_address
from tradingflow.db.models.chain import MonitoredContract
from tradingflow.monitor.catalogue import follow as begin
from tradingflow.monitor.catalogue import keep_abi, keep_rule
from tradingflow.monitor.contracts import Contract
from tradingflow.monitor.decoder import EventRow
from tradingflow.monitor.discovery import FactoryRule
from tradingflow.monitor.reader import MOST_ADDRESSES
from tradingflow.monitor.store import Batch, ChainStore

from .conftest import Follow
from .stored import Stored, catch_up

REPOSITORY = Path(__file__).resolve().parents[4]
VAULT_CREATED = event_topic("VaultCreated(address,address)")
CREATE_VAULT = event_topic("createVault(address,bytes32)")[:4]


async def test_stored_vaults_are_the_factorys_own_count(
    follow: Follow, anvil: Anvil, emitter: Emitter, stored: Stored
) -> None:
    factory = await deploy_factory(anvil.url, REPOSITORY, ZERO_ADDRESS)
    for salt in range(3):
        emitter.send(factory, CREATE_VAULT + word(emitter.account) + word(salt))
    emitter.mine(20)
    async with follow(vault_factory=factory, finality_blocks=8) as follower:
        await catch_up(follower)
        for salt in range(3, 5):  # three were found by the backfill, two are found at the head
            emitter.send(factory, CREATE_VAULT + word(emitter.account) + word(salt))
        await catch_up(follower)

    client = ChainClient(ChainSettings(chain_id=CHAIN_ID, name="local", rpc_urls=(anvil.url,)))
    try:
        count = await client.call("VaultFactory", factory, "vaultCount")
        chain = {await client.call("VaultFactory", factory, "vaultAt", index) for index in range(count)}
    finally:
        await client.close()
    vaults = [contract for contract in await stored.contracts() if contract.kind == "vault"]
    assert count == 5
    assert {vault.address for vault in vaults} == chain
    assert {vault.discovered_by for vault in vaults} == {factory}


async def test_a_childs_events_of_its_creation_block_are_stored(
    follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    factory = emitter.deploy(echo_contract(3))
    child = emitter.deploy(echo_contract(1))
    grandchild = emitter.deploy(echo_contract(1))
    await stored.monitor(factory, "vault_factory")
    paused, unpaused = event_topic("Paused()"), event_topic("Unpaused()")
    for born, blocks_after in ((child, 20), (grandchild, 1)):
        created = VAULT_CREATED + word(emitter.account) + word(born)
        emitter.in_one_block([(born, paused), (factory, created), (born, unpaused)])
        emitter.mine(blocks_after)

    async with follow(finality_blocks=8) as follower:
        await catch_up(follower)

    names = [(event.address.lower(), event.name) for event in await stored.events()]
    assert names == [
        (child, "Paused"), (factory, "VaultCreated"), (child, "Unpaused"),
        (grandchild, "Paused"), (factory, "VaultCreated"), (grandchild, "Unpaused"),
    ]  # fmt: skip


class Forgetful(FaultyRpc):
    """A node that has its blocks whole, and no logs of one contract yet."""

    forgotten = ""

    async def _forward(self, calls: Sequence[Any]) -> list[dict[str, Any]]:
        answers = await super()._forward(calls)
        for call, answer in zip(calls, answers, strict=True):
            if call["method"] == "eth_getLogs":
                answer["result"] = [log for log in answer["result"] if log["address"] != self.forgotten]
        return answers


@pytest.mark.parametrize("others", [0, MOST_ADDRESSES])  # logs are asked for by address, and without a filter
async def test_a_node_without_a_childs_first_logs_is_not_believed(
    follow: Follow, anvil: Anvil, engine: AsyncEngine, emitter: Emitter, stored: Stored, others: int
) -> None:
    factory, child = emitter.deploy(echo_contract(3)), emitter.deploy(echo_contract(1))
    await stored.monitor(factory, "vault_factory")
    rows = [
        {"chain_id": CHAIN_ID, "address": f"0x{place:040x}", "kind": "erc20", "from_block": 0}
        for place in range(1, others + 1)
    ]
    if rows:
        async with engine.begin() as connection:
            await connection.execute(insert(MonitoredContract), rows)
    emitter.emit(factory, [VAULT_CREATED, word(emitter.account), word(child)])
    emitter.emit(child, [event_topic("Paused()")])
    bad = Forgetful(anvil.url, random.Random(1), rate=0.0)
    bad.forgotten = child
    async with bad.serving():
        async with follow(rpc_urls=(bad.url,)) as follower:
            with pytest.raises(Distrusted, match="left out logs"):
                await catch_up(follower)
        assert await stored.events() == []
        assert {contract.address.lower() for contract in await stored.contracts()} == {
            factory, *(row["address"] for row in rows)
        }  # fmt: skip
        async with follow(rpc_urls=(bad.url, anvil.url)) as follower:
            await catch_up(follower)

    assert [event.name for event in await stored.events()] == ["VaultCreated", "Paused"]


async def test_a_child_that_is_monitored_already_stays_as_it_is(
    follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    factory = emitter.deploy(echo_contract(3))
    child = emitter.deploy(echo_contract(1))
    await stored.monitor(factory, "vault_factory")
    await stored.monitor(child, "mine")
    emitter.emit(factory, [VAULT_CREATED, word(emitter.account), word(child)])
    async with follow() as follower:
        await catch_up(follower)

    assert {row.address: row.kind for row in await stored.contracts()} == {
        parse_address(factory): "vault_factory",
        parse_address(child): "mine",
    }


@pytest.mark.parametrize("users_kind", ["abi_of_a_stranger", "erc20"])
@pytest.mark.parametrize("blocks_after", [20, 1])
@pytest.mark.parametrize("factory_is_late", [False, True])
async def test_what_a_user_said_of_a_vault_gives_way_to_its_factory(
    follow: Follow, emitter: Emitter, stored: Stored, users_kind: str, blocks_after: int, factory_is_late: bool
) -> None:
    paused, unpaused = event_topic("Paused()"), event_topic("Unpaused()")
    factory, child = emitter.deploy(echo_contract(3)), emitter.deploy(echo_contract(1))
    await stored.monitor(child, users_kind, emitter.head)
    if not factory_is_late:
        await stored.monitor(factory, "vault_factory")
    async with follow(finality_blocks=8) as follower:
        await catch_up(follower)
        created = VAULT_CREATED + word(emitter.account) + word(child)
        emitter.in_one_block([(child, paused), (factory, created), (child, unpaused)])
        born = emitter.head
        emitter.mine(blocks_after)
        emitter.send(child, paused)
        await catch_up(follower)
        if factory_is_late:
            assert [event.name for event in await stored.events()] == [None] * 3
            await stored.monitor(factory, "vault_factory")
            await catch_up(follower)
        emitter.send(child, unpaused)
        await catch_up(follower)

    events = [(event.kind, event.name) for event in await stored.events()]
    assert events == [
        ("vault", "Paused"), ("vault_factory", "VaultCreated"), ("vault", "Unpaused"), ("vault", "Paused"),
        ("vault", "Unpaused"),
    ]  # fmt: skip
    (vault,) = [row for row in await stored.contracts() if row.address == parse_address(child)]
    assert (vault.kind, vault.discovered_by, vault.from_block) == ("vault", parse_address(factory), born)
    assert vault.history_next == vault.live_from


async def test_what_a_user_said_of_a_pool_gives_way_to_the_configuration(
    follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    pool = emitter.deploy(swap_burst_contract())
    emitter.send(pool, word(2) + word(1))
    await stored.monitor(pool, "abi_of_a_stranger", emitter.head)
    async with follow() as follower:
        await catch_up(follower)
    assert [event.name for event in await stored.events()] == [None] * 2
    async with follow(pools=(parse_address(pool),)) as follower:
        await catch_up(follower)
        emitter.send(pool, word(1) + word(1))
        await catch_up(follower)

    assert [(event.kind, event.name) for event in await stored.events()] == [("uniswap_v3_pool", "Swap")] * 3


async def test_what_was_stored_by_a_users_word_until_the_follower_heard_is_read_anew(
    engine: AsyncEngine, stored: Stored
) -> None:
    factory, vault = parse_address("0x" + "aa" * 20), parse_address("0x" + "bb" * 20)
    store = ChainStore(engine, CHAIN_ID, finality_blocks=4)
    await store.prepare(0, [])
    await stored.monitor(vault, "abi_of_a_stranger")
    await store.adopt(0)
    hashes = (b"\1" * 32, b"\2" * 32, b"\xbb" * 20)
    row = EventRow(CHAIN_ID, 7, 0, *hashes, "abi_of_a_stranger", "E", b"{}", None, [], b"", datetime.now(UTC))
    async with engine.begin() as connection:
        await store.add_contracts(connection, [Contract(vault, "vault", 3, factory)])
    await store.commit(Batch(CHAIN_ID, 0, 10, [], [row]), head=20)

    assert await store.adopt(10) == [Contract(vault, "vault", 3, factory)]
    assert await stored.events() == []
    (contract,) = await stored.contracts()
    assert (contract.history_next, contract.live_from) == (3, 10)


async def test_an_operators_rule_follows_what_his_factory_announces(
    follow: Follow, engine: AsyncEngine, emitter: Emitter, stored: Stored
) -> None:
    inputs = [{"name": "market", "type": "address", "indexed": True}]
    abi = json.dumps([{"type": "event", "name": "MarketMade", "inputs": inputs}, {"type": "function"}])
    assert await keep_abi(engine, "market_factory", abi.encode()) == 1
    await keep_rule(engine, FactoryRule("market_factory", "MarketMade", "market", "erc20"))
    factory, child = emitter.deploy(echo_contract(2)), emitter.deploy(transfer_burst_contract())
    await begin(engine, CHAIN_ID, parse_address(factory), "market_factory", 0)
    emitter.in_one_block([(factory, event_topic("MarketMade(address)") + word(child)), (child, word(1) + word(7))])
    async with follow() as follower:
        await catch_up(follower)

    assert [event.name for event in await stored.events()] == ["MarketMade", "Transfer"]


async def test_a_running_monitor_takes_up_an_abi_that_was_mended(
    follow: Follow, engine: AsyncEngine, emitter: Emitter, stored: Stored
) -> None:
    def abi(argument: str) -> bytes:
        inputs = [{"name": argument, "type": "uint8", "indexed": True}]
        return json.dumps([{"type": "event", "name": "Moved", "inputs": inputs}]).encode()

    contract, moved = emitter.deploy(echo_contract(2)), event_topic("Moved(uint8)")
    await keep_abi(engine, "mover", abi("wrong"))
    await begin(engine, CHAIN_ID, parse_address(contract), "mover", 0)
    async with follow() as follower:
        emitter.emit(contract, [moved, word(1)])
        await catch_up(follower)
        await keep_abi(engine, "mover", abi("right"))
        emitter.emit(contract, [moved, word(2)])
        await catch_up(follower)

    assert [event.args for event in await stored.events()] == [{"wrong": 1}, {"right": 2}]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (FactoryRule("nothing", "PoolCreated", "pool", "erc20"), "not_found"),
        (FactoryRule("uniswap_v3_factory", "PoolCreated", "pool", "nothing"), "not_found"),
        (FactoryRule("uniswap_v3_factory", "Nothing", "pool", "erc20"), "unknown_event"),
        (FactoryRule("uniswap_v3_factory", "PoolCreated", "fee", "erc20"), "unknown_argument"),
    ],
)
async def test_a_rule_that_means_nothing_is_refused(engine: AsyncEngine, rule: FactoryRule, code: str) -> None:
    with pytest.raises(TradingFlowError) as refused:
        await keep_rule(engine, rule)
    assert refused.value.code == code


LONG_NAME = json.dumps([{"type": "event", "name": "X" * 101, "inputs": []}]).encode()


@pytest.mark.parametrize("text", [b"{", b"{}", b"[]", b'[{"type": "event", "name": "X"}]', LONG_NAME])
async def test_an_abi_that_is_none_is_not_kept(engine: AsyncEngine, text: bytes) -> None:
    with pytest.raises(InvalidInput):
        await keep_abi(engine, "mine", text)
    with pytest.raises(InvalidInput, match="built in"):
        await keep_abi(engine, "erc20", b"[]")
    with pytest.raises(InvalidInput, match="at most 100"):
        await keep_abi(engine, "k" * 101, b'[{"type": "event", "name": "X", "inputs": []}]')
