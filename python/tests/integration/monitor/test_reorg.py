"""The chain goes back on itself: what is stored goes with it, or the chain is halted."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from devstack.anvil import Anvil
from devstack.emitter import Emitter, echo_contract, event_topic, transfer_burst_contract, word
from devstack.faulty_rpc import FaultyRpc
from tradingflow.chain.rpc import Distrusted, RpcFailed
from tradingflow.messaging.chain_messages import ChainEventReverted, ChainReorged, decode_chain_message
from tradingflow.monitor.notify import ANNOUNCEMENT

from .conftest import Follow
from .stored import Stored, catch_up

VAULT_CREATED = event_topic("VaultCreated(address,address)")


def burst(first_value: int, count: int = 3) -> bytes:
    return word(count) + word(first_value)


@pytest.mark.parametrize("depth", [1, 2, 6])
async def test_events_of_replaced_blocks_give_way(follow: Follow, emitter: Emitter, stored: Stored, depth: int) -> None:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(8):
        emitter.send(token, burst(100 * block))
    await stored.monitor(token, "erc20")

    async with follow(finality_blocks=6) as follower:
        await catch_up(follower)
        kept = [event for event in await stored.events() if event.block_number <= emitter.head - depth]
        emitter.reorg(depth, [(token, burst(9_000), 0)])
        await catch_up(follower)

    events = await stored.events()
    assert events[: len(kept)] == kept
    assert [int(event.args["value"]) for event in events[len(kept) :]] == [9_000, 9_001, 9_002]
    canonical = {int(block, 16) for block in [emitter.anvil.rpc("eth_blockNumber")]}
    assert (await stored.cursor()).next_block == max(canonical) + 1


async def test_a_reorg_under_new_blocks_is_seen_by_the_parent_hash(
    follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(4):
        emitter.send(token, burst(100 * block, count=1))
    await stored.monitor(token, "erc20")

    async with follow(finality_blocks=8) as follower:
        await catch_up(follower)
        emitter.reorg(2, [(token, burst(9_000, count=1), 0)])
        emitter.send(token, burst(9_001, count=1))
        await catch_up(follower)

    assert [int(event.args["value"]) for event in await stored.events()] == [0, 100, 9_000, 9_001]


async def test_a_reorg_while_the_monitor_was_away_is_found_at_its_start(
    follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    token = emitter.deploy(transfer_burst_contract())
    emitter.send(token, burst(0))
    await stored.monitor(token, "erc20")
    async with follow(finality_blocks=4) as follower:
        await catch_up(follower)

    emitter.reorg(1, [(token, burst(50), 0)])
    emitter.mine(40)  # the replaced block is now settled, so the way there is a backfill
    async with follow(finality_blocks=4) as follower:
        await catch_up(follower)

    assert [int(event.args["value"]) for event in await stored.events()] == [50, 51, 52]


async def test_consumers_hear_of_every_event_taken_back(follow: Follow, emitter: Emitter, stored: Stored) -> None:
    token = emitter.deploy(transfer_burst_contract())
    emitter.send(token, burst(0))
    await stored.monitor(token, "erc20")
    async with follow(finality_blocks=4) as follower:
        await catch_up(follower)
        removed = await stored.events()
        emitter.reorg(1)
        await catch_up(follower)

    outbox = await stored.outbox()
    said = [decode_chain_message(row.body) for row in outbox if row.exchange != ANNOUNCEMENT]
    *reverted, reorged = said
    assert isinstance(reorged, ChainReorged)
    assert [message.log_index for message in reverted if isinstance(message, ChainEventReverted)] == [2, 1, 0]
    assert {message.block_hash for message in reverted if isinstance(message, ChainEventReverted)} == {
        event.block_hash for event in removed
    }
    assert await stored.events() == []


async def test_a_discovery_in_a_replaced_block_is_undone(follow: Follow, emitter: Emitter, stored: Stored) -> None:
    factory = emitter.deploy(echo_contract(3))
    child = emitter.deploy(echo_contract(1))
    await stored.monitor(factory, "vault_factory")
    async with follow(finality_blocks=4) as follower:
        await catch_up(follower)
        emitter.emit(factory, [VAULT_CREATED, word(emitter.account), word(child)])
        emitter.emit(child, [event_topic("Paused()")])
        await catch_up(follower)
        assert len(await stored.contracts()) == 2
        emitter.reorg(2)
        emitter.emit(child, [event_topic("Unpaused()")])
        await catch_up(follower)

    assert [contract.address.lower() for contract in await stored.contracts()] == [factory]
    assert await stored.events() == []


async def test_a_node_without_the_blocks_cannot_halt_the_chain(
    follow: Follow, anvil: Anvil, emitter: Emitter, stored: Stored
) -> None:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(3):
        emitter.send(token, burst(100 * block, count=1))
    await stored.monitor(token, "erc20")
    rpc = FaultyRpc(anvil.url, random.Random(1), rate=0.0, faults=("headless",))
    async with rpc.serving(), follow(rpc_urls=(rpc.url,), finality_blocks=4) as follower:
        await catch_up(follower)
        emitter.reorg(2, [(token, burst(9_000, count=1), 0)])
        rpc.rate = 1.0
        with pytest.raises(RpcFailed):
            await follower.round()
        rpc.rate = 0.0
        await catch_up(follower)

    assert rpc.spoilt["headless"]
    assert (await stored.cursor()).halted_reason is None
    assert [int(event.args["value"]) for event in await stored.events()] == [0, 9_000]


class Lagging(FaultyRpc):
    """A stand-in that lacks the blocks from `missing` on, whatever head the balancer before it tells."""

    missing = float("inf")

    async def _forward(self, calls: Sequence[Any]) -> list[dict[str, Any]]:
        answers = await super()._forward(calls)
        lacks = [
            call["method"] == "eth_getBlockByNumber"
            and call["params"][0] != "latest"
            and int(call["params"][0], 16) >= self.missing
            for call in calls
        ]
        return [answer | {"result": None} if gone else answer for answer, gone in zip(answers, lacks, strict=True)]


@pytest.mark.parametrize("mined", [1, 40])  # near the head, and far behind it
async def test_a_node_without_the_last_block_takes_nothing_back(
    follow: Follow, anvil: Anvil, emitter: Emitter, stored: Stored, mined: int
) -> None:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(3):
        emitter.send(token, burst(100 * block, count=1))
    await stored.monitor(token, "erc20")
    rpc = Lagging(anvil.url, random.Random(1), rate=0.0)
    async with rpc.serving(), follow(rpc_urls=(rpc.url,), finality_blocks=4) as follower:
        await catch_up(follower)
        before = await stored.events()
        rpc.missing = emitter.head
        emitter.mine(mined)
        with pytest.raises(Distrusted):
            await follower.round()
        assert await stored.events() == before
        rpc.missing = float("inf")
        await catch_up(follower)

    assert await stored.events() == before
    said = [decode_chain_message(row.body) for row in await stored.outbox() if row.exchange != ANNOUNCEMENT]
    assert said == []


async def test_a_reorg_deeper_than_finality_halts_the_chain_and_changes_nothing(
    follow: Follow, emitter: Emitter, stored: Stored
) -> None:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(8):
        emitter.send(token, burst(100 * block))
    await stored.monitor(token, "erc20")
    async with follow(finality_blocks=3) as follower:
        await catch_up(follower)
        before = await stored.events()
        emitter.reorg(4)
        await follower.round()
        await follower.round()
        emitter.send(token, burst(9_000))
        await follower.round()

    cursor = await stored.cursor()
    assert "deeper than 3 blocks" in cursor.halted_reason
    assert await stored.events() == before
