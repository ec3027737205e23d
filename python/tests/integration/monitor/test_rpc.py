"""Bad nodes: what they say is not believed, and others stand in."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from devstack.anvil import CHAIN_ID, Anvil
from devstack.emitter import Emitter, echo_contract, event_topic, transfer_burst_contract, word
from devstack.faulty_rpc import FAULTS, MOST_LOGS, FaultyRpc
from tradingflow.chain.registry import AbiRegistry
from tradingflow.chain.rpc import RpcFailed
from tradingflow.core.config import ChainSettings
from tradingflow.monitor.server import follow_chain

from .stored import Stored, catch_up


@asynccontextmanager
async def node(anvil: Anvil, *faults: str) -> AsyncIterator[str]:
    """A node that spoils every answer in these ways; an honest one without any."""
    rpc = FaultyRpc(anvil.url, random.Random(1), rate=1.0 if faults else 0.0, faults=faults)
    async with rpc.serving():
        yield rpc.url


def chain(urls: Sequence[str], **settings: object) -> ChainSettings:
    fields = {"chain_id": CHAIN_ID, "name": "local", "rpc_urls": tuple(urls), "finality_blocks": 4}
    return ChainSettings.model_validate(fields | settings)


@pytest.fixture
async def token(emitter: Emitter, stored: Stored) -> str:
    token = emitter.deploy(transfer_burst_contract())
    for block in range(40):
        emitter.send(token, word(1) + word(block))
    await stored.monitor(token, "erc20")
    return token


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in {"slow", "range_limit"}])
async def test_an_honest_node_stands_in_for_a_bad_one(
    anvil: Anvil, token: str, engine: AsyncEngine, stored: Stored, fault: str
) -> None:
    async with AsyncExitStack() as stack:
        bad = await stack.enter_async_context(node(anvil, fault))
        good = await stack.enter_async_context(node(anvil))
        follower = await stack.enter_async_context(follow_chain(chain([bad, good]), engine, AbiRegistry()))
        await catch_up(follower)
    assert [int(event.args["value"]) for event in await stored.events()] == list(range(40))


@pytest.mark.parametrize("fault", ["wrong_chain", "empty_logs", "truncated"])
async def test_nothing_is_stored_when_only_a_bad_node_is_left(
    anvil: Anvil, token: str, engine: AsyncEngine, stored: Stored, fault: str
) -> None:
    async with node(anvil, fault) as url, follow_chain(chain([url]), engine, AbiRegistry()) as follower:
        with pytest.raises(RpcFailed):
            await catch_up(follower)
    assert (await stored.cursor()).next_block == 0


async def test_a_range_limit_is_learned(anvil: Anvil, token: str, engine: AsyncEngine, stored: Stored) -> None:
    async with node(anvil, "range_limit") as url, follow_chain(chain([url]), engine, AbiRegistry()) as follower:
        await catch_up(follower)
    assert len(await stored.events()) == 40


async def test_children_with_more_logs_than_a_node_gives_at_once_are_read_in_parts(
    anvil: Anvil, engine: AsyncEngine, stored: Stored, emitter: Emitter
) -> None:
    factory, child = emitter.deploy(echo_contract(3)), emitter.deploy(echo_contract(1))
    emitter.emit(factory, [event_topic("VaultCreated(address,address)"), word(emitter.account), word(child)])
    for _ in range(MOST_LOGS + 10):
        emitter.emit(child, [event_topic("Paused()")])
    emitter.mine(5)
    await stored.monitor(factory, "vault_factory")
    async with node(anvil, "result_limit") as url, follow_chain(chain([url]), engine, AbiRegistry()) as follower:
        await catch_up(follower)
    assert [event.name for event in await stored.events()] == ["VaultCreated", *["Paused"] * (MOST_LOGS + 10)]


async def test_heads_by_socket_wake_the_follower(
    anvil: Anvil, token: str, engine: AsyncEngine, stored: Stored, emitter: Emitter
) -> None:
    socket = anvil.url.replace("http", "ws")
    settings = chain([anvil.url], ws_url=socket, poll_interval_s=3600)
    async with follow_chain(settings, engine, AbiRegistry()) as follower:
        seen = asyncio.Queue[int]()
        follower.on_stored = seen.put_nowait
        following = asyncio.create_task(follower.run())
        async with asyncio.timeout(30):
            while await seen.get() < emitter.head:
                pass
            await asyncio.to_thread(emitter.send, token, word(1) + word(40))
            while await seen.get() < emitter.head:
                pass
        following.cancel()
    assert len(await stored.events()) == 41
