"""Flows that trade through a V2 router: asked for by a node, planned by the executor, mined, and the same on paper."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from devstack.anvil import CHAIN_ID
from devstack.executor_world import ONE_QUOTE
from devstack.uniswap import V2Exchange, open_v2_exchange
from devstack.vaults import LocalVaults
from tests.integration.simulation.live import executing, executor_settings
from tests.integration.simulation.test_shadow import shadowed
from tests.integration.simulation.world import DEPOSIT, REPOSITORY, World
from tests.integration.worker.conftest import tasks_by_node
from tradingflow.chain.swap_path import encode_path
from tradingflow.chain.uniswap import UniswapReader
from tradingflow.chain.vault_policy import KIND_UNISWAP_V2

NAME = "over_v2"


@pytest.fixture
async def exchange(world: World) -> V2Exchange:
    """A V2 exchange whose router the vault allows."""
    async with LocalVaults(world.anvil.url, REPOSITORY) as vaults:
        exchange = await open_v2_exchange(vaults.deployer, world.market)
        vault = vaults.deployer.at("Vault", world.vault)
        await vaults.deployer.send(vault.functions.setRouter(exchange.router, KIND_UNISWAP_V2))
    return exchange


def swap(world: World, **config: Any) -> dict[str, Any]:
    tokens = {"token_in": world.market.quote_token, "token_out": world.market.base_token}
    terms = {"chain_id": CHAIN_ID, "vault": world.vault, "amount": "500", **tokens, **config}
    return {"id": "swap", "type": "swap_node", "config": terms}


def over_pair(world: World, exchange: V2Exchange) -> dict[str, Any]:
    terms = {"chain_id": CHAIN_ID, "vault": world.vault, "pool": exchange.pair, "router": exchange.router}
    return {"id": "swap", "type": "buy_node", "config": {**terms, "amount": "5", "amount_unit": "percent"}}


async def quoted(world: World, exchange: V2Exchange) -> int:
    path = encode_path([world.market.quote_token, world.market.base_token])
    return await UniswapReader(world.chain).quote(path, 500 * ONE_QUOTE, router=exchange.router)


async def traded(world: World, node: dict[str, Any], mode: str) -> Any:
    """The receipt of one cycle of a flow that is that node alone."""
    async with executing(world, executor_settings(world)):
        flow = {"flow_id": NAME, "cycle_interval": 0, "flow_json": {"nodes": [node], "edges": []}, "mode": mode}
        await world.client.ok("PUT", f"/flows/{NAME}", {**flow, "shadow_bound_bps": 0})
        report = await world.client.ok("POST", f"/flows/{NAME}/preflight")
        assert report["ready"], report["findings"]
        await world.client.ok("POST", f"/flows/{NAME}/cycles")
        cycle = await world.client.cycle_end(NAME)
    assert cycle["status"] == "completed", cycle
    return tasks_by_node(cycle)["swap"]["outputs"]["trade_receipt"]


async def blocking(world: World, node: dict[str, Any]) -> list[Any]:
    """What keeps a live flow of that node alone from starting."""
    async with executing(world, executor_settings(world)):
        flow = {"flow_id": NAME, "cycle_interval": 0, "flow_json": {"nodes": [node], "edges": []}, "mode": "live"}
        await world.client.ok("PUT", f"/flows/{NAME}", flow)
        report = await world.client.ok("POST", f"/flows/{NAME}/preflight")
    return [finding for finding in report["findings"] if finding["blocks"]]


@pytest.mark.parametrize("by", ["swap_node", "buy_node"])
async def test_a_live_node_trades_through_the_v2_router_it_names_and_its_shadow_agrees(
    world: World, exchange: V2Exchange, by: str
) -> None:
    node = swap(world, route="v2", router=exchange.router) if by == "swap_node" else over_pair(world, exchange)
    expected = await quoted(world, exchange)
    reserves = await world.chain.call("UniswapV2Pair", exchange.pair, "getReserves")
    receipt = await traded(world, node, "live")
    assert receipt["amount_out"] == str(expected)
    assert await world.chain.call("UniswapV2Pair", exchange.pair, "getReserves") != reserves
    assert int(await world.chain.call("ERC20", world.market.base_token, "balanceOf", world.vault)) == expected
    assert int(await world.chain.call("ERC20", world.market.quote_token, "balanceOf", world.vault)) == (
        DEPOSIT - 500 * ONE_QUOTE
    )
    await shadowed(world)
    assert (await world.client.ok("GET", f"/flows/{NAME}/divergences"))["items"] == []


async def test_a_paper_node_gets_the_quote_of_the_router_it_names(world: World, exchange: V2Exchange) -> None:
    expected = await quoted(world, exchange)
    receipt = await traded(world, swap(world, route="v2", router=exchange.router), "paper")
    assert receipt["amount_out"] == str(expected)


@pytest.mark.parametrize(
    ("route", "router", "codes"),
    [
        ("v2", None, {"router_kind_mismatch"}),  # the chain's one router is V3
        ("v3", "v2", {"router_kind_mismatch"}),
        ("v2", "stranger", {"router_not_allowed"}),
    ],
)
async def test_preflight_blocks_a_router_that_does_not_go_with_the_route(
    world: World, exchange: V2Exchange, route: str, router: str | None, codes: set[str]
) -> None:
    named = {"v2": exchange.router, "stranger": world.market.weth, None: None}[router]
    node = swap(world, route=route, router=named)
    found = await blocking(world, node)
    assert {finding["code"] for finding in found} == codes
    assert (await world.client.post(f"/flows/{NAME}/start")).status_code == 409


async def test_preflight_blocks_a_pair_that_the_router_does_not_trade_in(world: World, exchange: V2Exchange) -> None:
    """Both exchanges have a pair of the two tokens: the node would decide by one and trade in the other."""
    async with LocalVaults(world.anvil.url, REPOSITORY) as vaults:
        other = await open_v2_exchange(vaults.deployer, world.market, base=Decimal(50))
    node = over_pair(world, V2Exchange(exchange.router, other.pair))
    found = await blocking(world, node)
    (finding,) = found
    assert finding["code"] == "pool_of_another_exchange"
    assert exchange.pair in finding["detail"]
    assert other.pair in finding["detail"]
