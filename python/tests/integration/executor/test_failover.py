"""A chain with several nodes, some of which fail or lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from devstack.anvil import CHAIN_ID, Anvil
from devstack.executor_world import ONE_QUOTE, World, operator_signer
from devstack.lying_rpc import LyingRpc
from devstack.ports import LOOPBACK, free_port
from tradingflow.chain.client import ChainClient
from tradingflow.chain.fees import Fees
from tradingflow.chain.signer import UnsignedTransaction
from tradingflow.chain.transactions import find_receipt, head_number, mined_nonce, send_raw
from tradingflow.core.config import ChainSettings
from tradingflow.core.errors import DependencyUnavailable

FIRST, SECOND, THIRD = 0, 1, 2
MINED_WITHIN_S = 30


@dataclass
class Nodes:
    """Three nodes of one chain, of which the first is asked first."""

    client: ChainClient
    rpcs: Sequence[LyingRpc]


@asynccontextmanager
async def nodes_of(url: str, count: int, template: ChainSettings) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as stack:
        rpcs = [await stack.enter_async_context(LyingRpc(url, seed)) for seed in range(count)]
        client = ChainClient(template.model_copy(update={"rpc_urls": tuple(rpc.url for rpc in rpcs)}))
        stack.push_async_callback(client.close)
        yield Nodes(client, rpcs)


@pytest.fixture
async def nodes(anvil: Anvil) -> AsyncIterator[Nodes]:
    settings = ChainSettings(chain_id=CHAIN_ID, name="local", rpc_urls=("-",))
    async with nodes_of(anvil.url, 3, settings) as nodes:
        yield nodes


async def signed_transfer(nonce: int = 0) -> tuple[bytes, str]:
    signer = operator_signer()
    fees = Fees(max_fee=10**11, tip=10**9)
    signed = await signer.sign(UnsignedTransaction(CHAIN_ID, nonce, signer.address, b"", 21_000, fees))
    return signed.raw, signed.hash


async def send_and_mine(nodes: Nodes, anvil: Anvil) -> str:
    """A transfer that the chain has mined; its hash. A node may answer for what it took before it mines it."""
    raw, sent = await signed_transfer()
    assert (await send_raw(nodes.client, raw)).is_held
    async with asyncio.timeout(MINED_WITHIN_S):
        while anvil.rpc("eth_getTransactionReceipt", sent) is None:  # noqa: ASYNC110 - a chain sets no event
            await asyncio.sleep(0.02)
    return sent


async def test_reads_go_on_while_one_node_answers(nodes: Nodes) -> None:
    for failing in (FIRST, SECOND):
        nodes.rpcs[failing].lies.error_rate = 1.0
    assert await head_number(nodes.client) == 0
    nodes.rpcs[THIRD].lies.error_rate = 1.0
    with pytest.raises(DependencyUnavailable):
        await head_number(nodes.client)


async def test_node_that_is_not_there_is_passed_over(anvil: Anvil) -> None:
    nobody = f"http://{LOOPBACK}:{free_port()}"
    client = ChainClient(ChainSettings(chain_id=CHAIN_ID, name="local", rpc_urls=(nobody, anvil.url)))
    try:
        assert await head_number(client) == 0
        assert (await send_raw(client, (await signed_transfer())[0])).is_held
    finally:
        await client.close()


async def test_node_of_another_chain_is_not_asked(nodes: Nodes, anvil: Anvil) -> None:
    anvil.rpc("anvil_mine", "0x5")
    nodes.rpcs[FIRST].lies.chain_lie = 1
    nodes.rpcs[FIRST].lies.nonce_lie = 7
    assert await head_number(nodes.client) == 5
    assert await mined_nonce(nodes.client, operator_signer().address) == 0
    assert nodes.rpcs[FIRST].lies.told == {}


@pytest.mark.parametrize("lie", [5, -5])
@pytest.mark.parametrize("liar", [FIRST, SECOND, THIRD])
async def test_one_node_that_lies_about_the_nonce_is_outvoted(nodes: Nodes, anvil: Anvil, liar: int, lie: int) -> None:
    await send_and_mine(nodes, anvil)
    nodes.rpcs[liar].lies.nonce_lie = lie
    assert await mined_nonce(nodes.client, operator_signer().address) == 1
    assert nodes.rpcs[liar].lies.told == {"lies": 1}


async def test_transaction_reaches_the_chain_though_the_first_node_never_takes_it(nodes: Nodes, anvil: Anvil) -> None:
    nodes.rpcs[FIRST].lies.error_rate = 1.0
    sent = await send_and_mine(nodes, anvil)
    assert await find_receipt(nodes.client, sent) is not None


async def test_transaction_that_one_node_takes_and_keeps_reaches_the_chain_through_the_others(nodes: Nodes) -> None:
    nodes.rpcs[FIRST].lies.swallows = True
    raw, sent = await signed_transfer()
    assert (await send_raw(nodes.client, raw)).is_held
    async with asyncio.timeout(10):
        while await find_receipt(nodes.client, sent) is None:  # noqa: ASYNC110 - a chain sets no event
            await asyncio.sleep(0.02)
    assert nodes.rpcs[FIRST].lies.told == {"swallowed": 1}


async def test_receipt_that_one_node_hides_is_found(nodes: Nodes, anvil: Anvil) -> None:
    sent = await send_and_mine(nodes, anvil)
    nodes.rpcs[FIRST].lies.hides_receipts = True
    assert await find_receipt(nodes.client, sent) is not None
    assert nodes.rpcs[FIRST].lies.told["hidden"] == 1
    assert await find_receipt(nodes.client, "0x" + "12" * 32) is None


async def test_trades_are_mined_once_each_through_a_node_that_does_everything_wrong(world: World) -> None:
    async with nodes_of(world.anvil.url, 3, world.client.settings) as nodes:
        lies = nodes.rpcs[FIRST].lies
        lies.error_rate, lies.silence_after_send_rate, lies.nonce_lie, lies.hides_receipts = 0.3, 0.5, 3, True
        world.client = nodes.client
        trades = [await world.request_trade(ONE_QUOTE) for _ in range(8)]
        for identity in trades:
            await world.executor().advance(identity)
        sent = [await world.transactions(identity) for identity in trades]
        assert [(await world.trade(identity)).status for identity in trades] == ["completed"] * 8
        assert [[(t.nonce, t.status) for t in attempts] for attempts in sent] == [[(n, "mined")] for n in range(8)]
        # Which of its lies are told depends on who is asked when; that it was asked and lied is what counts.
        assert {"errors", "hidden"} <= lies.told.keys()
