"""What an operator's commands find and mend."""

import json
from typing import Any

import pytest
from sqlalchemy import delete, insert, update
from sqlalchemy.ext.asyncio import AsyncEngine

from devstack.anvil import CHAIN_ID, Anvil
from devstack.emitter import Emitter, echo_contract, event_topic, transfer_burst_contract, word
from tradingflow.chain.registry import AbiRegistry
from tradingflow.core.config import ChainSettings
from tradingflow.core.evm import parse_address
from tradingflow.db.models.chain import ContractAbi, ContractEvent
from tradingflow.messaging.chain_messages import ChainEvent, ChainEventReverted, decode_chain_message
from tradingflow.messaging.topology import CHAIN_EVENTS_FINAL
from tradingflow.monitor.catalogue import keep_abi, keep_rule
from tradingflow.monitor.contracts import Contract
from tradingflow.monitor.discovery import FactoryRule
from tradingflow.monitor.notify import ANNOUNCEMENT
from tradingflow.monitor.operation import Difference, Operation, statuses
from tradingflow.monitor.server import ChainParts, open_chain
from tradingflow.monitor.store import ChainStore, CursorMoved

from .stored import Stored, catch_up

TRANSFER = event_topic("Transfer(address,address,uint256)")


@pytest.fixture
async def token(emitter: Emitter, stored: Stored) -> str:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(6):
        emitter.send(token, word(2) + word(2 * block))
    await stored.monitor(token, "erc20")
    return token


@pytest.fixture
def chain(anvil: Anvil) -> ChainSettings:
    return ChainSettings(chain_id=CHAIN_ID, name="local", rpc_urls=(anvil.url,), finality_blocks=3)


def operation(parts: ChainParts, engine: AsyncEngine) -> Operation:
    return Operation(engine, CHAIN_ID, parts.store, AbiRegistry())


async def test_verify_names_what_differs(
    token: str, chain: ChainSettings, engine: AsyncEngine, stored: Stored, emitter: Emitter
) -> None:
    async with open_chain(chain, engine, AbiRegistry()) as parts:
        await catch_up(parts.follower)
        desk = operation(parts, engine)
        assert await desk.verify(parts.reader, 0, emitter.head) == []

        first, second, *_ = await stored.events()
        async with engine.begin() as connection:
            await connection.execute(
                delete(ContractEvent).where(
                    ContractEvent.block_number == first.block_number, ContractEvent.log_index == first.log_index
                )
            )
            await connection.execute(
                update(ContractEvent)
                .where(ContractEvent.block_number == second.block_number, ContractEvent.log_index == second.log_index)
                .values(args={"value": "tampered"})
            )
        assert await desk.verify(parts.reader, 0, emitter.head) == [
            Difference(first.block_number, first.log_index, "missing"),
            Difference(second.block_number, second.log_index, "args"),
        ]


async def test_redecode_gives_raw_events_their_names_and_says_so(
    emitter: Emitter, chain: ChainSettings, engine: AsyncEngine, stored: Stored
) -> None:
    contract = emitter.deploy(echo_contract(1))
    emitter.emit(contract, [event_topic("Moved(uint8)")], word(7))
    emitter.emit(contract, [event_topic("Strange()")])
    await stored.monitor(contract, "mover")
    async with open_chain(chain, engine, AbiRegistry()) as parts:
        await catch_up(parts.follower)
        abi = [{"type": "event", "name": "Moved", "inputs": [{"name": "to", "type": "uint8"}]}]
        async with engine.begin() as connection:
            rows = [{"kind": "mover", "entries": abi}, {"kind": "broken", "entries": [{"type": "event"}]}]
            await connection.execute(insert(ContractAbi), rows)
        assert await operation(parts, engine).redecode() == (2, 1)

    moved, strange = await stored.events()
    assert (moved.name, moved.args, moved.undecoded_reason) == ("Moved", {"to": 7}, None)
    assert strange.undecoded_reason == "no event of mover fits"
    said = [decode_chain_message(row.body) for row in await stored.outbox() if row.exchange != ANNOUNCEMENT]
    assert [message.name for message in said if isinstance(message, ChainEvent)] == ["Moved"]


async def test_redecode_finds_the_factory_of_what_a_user_named_otherwise(
    emitter: Emitter, chain: ChainSettings, engine: AsyncEngine, stored: Stored
) -> None:
    factory, child = emitter.deploy(echo_contract(2)), emitter.deploy(echo_contract(1))
    await stored.monitor(factory, "market_factory")
    await stored.monitor(child, "abi_of_a_stranger")
    made = event_topic("MarketMade(address)") + word(child)
    emitter.in_one_block([(factory, made), (child, event_topic("Paused()"))])
    async with open_chain(chain, engine, AbiRegistry()) as parts:
        await catch_up(parts.follower)
        inputs = [{"name": "market", "type": "address", "indexed": True}]
        abi = json.dumps([{"type": "event", "name": "MarketMade", "inputs": inputs}])
        await keep_abi(engine, "market_factory", abi.encode())
        await keep_rule(engine, FactoryRule("market_factory", "MarketMade", "market", "vault"))
        assert await operation(parts, engine).redecode() == (2, 1)
        await catch_up(parts.follower)

    assert [(event.kind, event.name) for event in await stored.events()] == [
        ("market_factory", "MarketMade"), ("vault", "Paused"),
    ]  # fmt: skip


async def test_reindex_reads_a_contract_again(
    token: str, chain: ChainSettings, engine: AsyncEngine, stored: Stored
) -> None:
    async with open_chain(chain, engine, AbiRegistry()) as parts:
        await catch_up(parts.follower)
        before = await stored.events()
        assert await operation(parts, engine).reindex(parse_address(token)) == 12
        assert await stored.events() == []
        await catch_up(parts.follower)
    assert await stored.events() == before


async def test_reindex_while_the_past_is_read_loses_nothing(
    chain: ChainSettings, engine: AsyncEngine, stored: Stored, emitter: Emitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(6):
        emitter.send(token, word(1) + word(block))
    async with open_chain(chain, engine, AbiRegistry()) as parts:
        await catch_up(parts.follower)
        await stored.monitor(parse_address(token), "erc20")
        await parts.follower.round()  # reads what is settled; the blocks near the head are still missing

        async def reindex_first(store: ChainStore, *batch: Any) -> list[Contract]:
            monkeypatch.undo()
            assert await operation(parts, engine).reindex(parse_address(token)) > 0
            return await store.commit_history(*batch)

        monkeypatch.setattr(ChainStore, "commit_history", reindex_first)
        with pytest.raises(CursorMoved):
            await parts.follower.round()
        await catch_up(parts.follower)
    assert [int(event.args["value"]) for event in await stored.events()] == list(range(6))


async def test_reindex_leaves_a_contract_to_be_taken_up_by_the_follower(
    chain: ChainSettings, engine: AsyncEngine, stored: Stored, emitter: Emitter
) -> None:
    token = emitter.deploy(transfer_burst_contract())
    emitter.send(token, word(1) + word(0))
    async with open_chain(chain, engine, AbiRegistry()) as parts:
        await catch_up(parts.follower)
        await stored.monitor(parse_address(token), "erc20")
        assert await operation(parts, engine).reindex(parse_address(token)) == 0
        await catch_up(parts.follower)
        emitter.send(token, word(1) + word(1))
        await catch_up(parts.follower)
    assert [int(event.args["value"]) for event in await stored.events()] == [0, 1]


async def test_a_halted_chain_goes_on_from_where_the_operator_says(
    token: str, chain: ChainSettings, engine: AsyncEngine, stored: Stored, emitter: Emitter
) -> None:
    async with open_chain(chain, engine, AbiRegistry()) as parts:
        await catch_up(parts.follower)
        fork = emitter.head - 5
        emitter.reorg(5, [(token, word(1) + word(900), 0)])
        await parts.follower.round()
        assert (await statuses(engine))[0].halted_reason is not None
        taken_back = await parts.store.resume(rewind_to=fork)
        await catch_up(parts.follower)

        assert taken_back == 10
        assert await operation(parts, engine).verify(parts.reader, 0, emitter.head) == []
    assert [int(event.args["value"]) for event in await stored.events()] == [0, 1, 900]
    final = [row for row in await stored.outbox() if row.exchange == CHAIN_EVENTS_FINAL]
    assert all(isinstance(decode_chain_message(row.body), ChainEventReverted) for row in final)
    assert len(final) == 4, "two blocks had been announced as final"
