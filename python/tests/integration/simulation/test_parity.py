"""Backtest equals live: the same flow, unchanged, over the same history of a pool.

Once in memory over the recorded blocks, once through the real worker, executor, vault and Uniswap contracts while the
same swaps of others are made on the chain. Decisions, trade ids and fills must be the same, to the last unit, and the
two states are never brought together again in between.
"""

from __future__ import annotations

import random
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from web3 import AsyncHTTPProvider, AsyncWeb3

from devstack.anvil import CHAIN_ID
from devstack.executor_world import ONE_BASE, ONE_QUOTE
from devstack.uniswap import BASE_DECIMALS, FAR_FUTURE, QUOTE_DECIMALS, Artifacts, Deployer
from tests.integration.simulation.live import executing, executor_settings
from tests.integration.simulation.world import REPOSITORY, World, edge
from tests.integration.worker.conftest import tasks_by_node
from tradingflow.chain.pool_snapshot import read_pool
from tradingflow.chain.swap_path import encode_path
from tradingflow.chain.vault_settings import read_vault
from tradingflow.core.clock import SimulatedClock
from tradingflow.core.money import MAX_UINT256
from tradingflow.db.models import Flow, Trade
from tradingflow.py_worker.engine.graph import build_graph
from tradingflow.py_worker.simulation.gateway import NodeIdentity, SimulatedChain, SimulatedExecutor
from tradingflow.py_worker.simulation.pool_run import PoolBlock, PoolEvent, PoolMarkets, PoolRun
from tradingflow.py_worker.simulation.vault import SimulatedVault
from tradingflow.py_worker.simulation.venue import PoolVenue

BLOCKS = 12
RANDOM_FLOWS = 20
BLOCKS_A_RANDOM_FLOW = 2


@dataclass
class TwoWorlds:
    """The chain, and its twin in memory."""

    world: World
    trader: Trader
    executor: SimulatedExecutor
    markets: PoolMarkets
    clock: SimulatedClock
    block: int = 1_000

    @classmethod
    async def of(cls, world: World) -> TwoWorlds:
        market = world.market
        pool = await read_pool(world.chain, market.pool)
        key = (pool.token0, pool.token1, market.fee)
        vault = await read_vault(world.chain, world.vault, 0)
        clock = SimulatedClock(datetime.now(UTC))
        executor = SimulatedExecutor(
            clock,
            {CHAIN_ID: SimulatedChain(PoolVenue({key: pool}), market.swap_router)},
            {
                (CHAIN_ID, world.vault): SimulatedVault(
                    world.vault, CHAIN_ID, vault.policy, vault.balances, vault.ledger
                )
            },
        )
        decimals = {market.base_token: BASE_DECIMALS, market.quote_token: QUOTE_DECIMALS}
        markets = PoolMarkets(CHAIN_ID, executor, {market.pool: key}, decimals, market.quote_token)
        return cls(world, await Trader.of(world), executor, markets, clock)

    async def run(self, name: str, graph: dict[str, Any], chance: random.Random, blocks: int) -> int:
        """The flow over some blocks in both worlds; the trades it made. Fails the test where they differ."""
        client = self.world.client
        answer = await client.http.put(
            f"/flows/{name}",
            json={"flow_id": name, "cycle_interval": 0, "flow_json": graph},
            headers=client.headers,
        )
        assert answer.is_success, answer.text
        async with self.world.sessions() as session:
            flow_pk = (await session.scalars(select(Flow.id).where(Flow.flow_id == name))).one()
        parts = self.world.app.state.parts
        identity = NodeIdentity(flow_pk, 1, 0, "")
        tested = PoolRun(build_graph(graph, parts.specs), parts.types, identity, name, self.clock, self.markets)
        for number in range(blocks):
            await self._happen(tested, chance)
            await client.ok("POST", f"/flows/{name}/cycles")
            live = tasks_by_node(await client.cycle_end(name, number))
            simulated = await tested.cycle(number)
            assert {node: _told(task["status"], task["outputs"], task["error"]) for node, task in live.items()} == {
                node: _told(outcome.status, outcome.outputs, outcome.error) for node, outcome in simulated.items()
            }, (name, number)
        return await self._compare_trades(flow_pk)

    async def _happen(self, tested: PoolRun, chance: random.Random) -> None:
        """One block of others' swaps, on chain and in the recording."""
        events = [await self.trader.swap(chance) for _ in range(chance.randrange(3))]
        self.block += 1
        tested.follow(PoolBlock(self.block, int(self.clock.now().timestamp()) + 12, events))

    async def _compare_trades(self, flow_pk: Any) -> int:
        async with self.world.sessions() as session:
            rows = (await session.scalars(select(Trade).where(Trade.flow_pk == flow_pk))).all()
        mine = {made.trade_id: made for made in self.executor.trades.values() if made.identity.flow_pk == flow_pk}
        assert {row.id: (row.amount_in, row.min_amount_out, row.amount_out, row.failure_code) for row in rows} == {
            made.trade_id: (
                made.intent.amount_in,
                # Live, a trade that was refused before it was signed has no least amount written down.
                made.min_amount_out if made.fill else None,
                made.fill.amount_out if made.fill else None,
                made.failure_code,
            )
            for made in mine.values()
        }
        pool = self.executor.chains[CHAIN_ID].venue
        assert isinstance(pool, PoolVenue)
        (in_memory,) = pool.pools.values()
        assert in_memory == await read_pool(self.world.chain, self.world.market.pool)
        held = self.executor.vaults[CHAIN_ID, self.world.vault].balances
        assert held == (await read_vault(self.world.chain, self.world.vault, 0)).balances
        return sum(made.fill is not None for made in mine.values())


def _told(status: str, outputs: Any, error: Any) -> tuple[Any, ...]:
    """What of a node must be equal."""
    return status, _placeless(outputs or {}), (error or {}).get("error")


def _placeless(value: Any) -> Any:
    """Without where on chain a trade was mined, which cannot be equal."""
    if isinstance(value, dict):
        return {k: _placeless(held) for k, held in value.items() if k not in ("transaction_hash", "block_number")}
    return value


@dataclass
class Trader:
    """Somebody else in the same pool."""

    world: World
    deployer: Deployer
    router: Any

    @classmethod
    async def of(cls, world: World) -> Trader:
        web3 = AsyncWeb3(AsyncHTTPProvider(world.anvil.url))
        deployer = Deployer(web3, Artifacts(REPOSITORY), list(await web3.eth.accounts)[3])
        market = world.market
        for token, amount in ((market.base_token, 10**6 * ONE_BASE), (market.quote_token, 10**10 * ONE_QUOTE)):
            contract = deployer.at("TestToken", token)
            await deployer.send(contract.functions.mint(deployer.account, amount))
            await deployer.send(contract.functions.approve(market.swap_router, MAX_UINT256))
        return cls(world, deployer, deployer.at("SwapRouter", market.swap_router))

    async def aclose(self) -> None:
        await self.deployer.web3.provider.disconnect()

    async def swap(self, chance: random.Random) -> PoolEvent:
        """A swap of chance on chain, and the event it left as a recording has it."""
        market = self.world.market
        tokens = [market.base_token, market.quote_token]
        amounts = [chance.randrange(1, 60 * ONE_BASE), chance.randrange(1, 120_000 * ONE_QUOTE)]
        sold = chance.randrange(2)
        path = encode_path([tokens[sold], tokens[1 - sold]], [market.fee])
        terms = (path, self.deployer.account, FAR_FUTURE, amounts[sold], 0)
        receipt = await self.deployer.send(self.router.functions.exactInput(terms))
        pool = self.deployer.at("UniswapV3Pool", market.pool)
        events = await pool.events.Swap().get_logs(from_block=receipt["blockNumber"])
        return PoolEvent(market.pool, "Swap", {name: str(value) for name, value in events[0]["args"].items()})


def random_flow(world: World, chance: random.Random, price: int) -> dict[str, Any]:
    """The price, then one to three times a condition near it and a trade, which may be more than the vault allows.

    Each condition waits for the trade before it: which of two parallel trades comes first is chance, live as well.
    """
    nodes: list[Any] = [world.price()]
    edges: list[Any] = []
    for step in range(chance.randrange(1, 4)):
        condition, trade = f"if_{step}", f"trade_{step}"
        expression = f"price {chance.choice(['<', '>'])} {price * chance.randrange(97, 104) // 100}.0"
        nodes.append({"id": condition, "type": "condition_node", "config": {"expression": expression}})
        edges.append(edge("price", "price", condition, "price"))
        if step:
            edges.append(edge(f"trade_{step - 1}", "trade_receipt", condition, "before"))
        nodes.append(random_trade(world, chance, trade))
        edges.append(edge(condition, chance.choice(["true", "false"]), trade, "trigger"))
    return {"nodes": nodes, "edges": edges}


def random_trade(world: World, chance: random.Random, node_id: str) -> dict[str, Any]:
    kind = chance.choice(["buy_node", "buy_node", "sell_node"])
    whole = str(chance.randrange(1, 1_300)) if kind == "buy_node" else f"{chance.uniform(0.001, 1.5):.6f}"
    share = str(chance.choice([1, 3, 9, 27]))
    unit, amount = ("human", whole) if chance.random() < 0.5 else ("percent", share)
    node = world.buy(amount=amount, amount_unit=unit, slippage_bps=chance.choice([1, 50]))
    return {**node, "id": node_id, "type": kind}


async def test_a_flow_decides_and_fills_alike_in_memory_and_on_chain(world: World) -> None:
    worlds, chance = await TwoWorlds.of(world), random.Random(11)
    nodes, edges = world.flow(cheap_below="2010.0", amount="7", amount_unit="percent")
    nodes.append({**world.buy(amount="40", amount_unit="percent"), "id": "sell", "type": "sell_node"})
    edges.append(edge("cheap", "false", "sell", "trigger"))
    async with aclosing(worlds.trader), executing(world, executor_settings(world)):
        trades = await worlds.run("tested", {"nodes": nodes, "edges": edges}, chance, BLOCKS)
    assert trades >= BLOCKS // 2


async def test_random_flows_decide_and_fill_alike_in_memory_and_on_chain(world: World) -> None:
    worlds, chance, trades = await TwoWorlds.of(world), random.Random(12), 0
    async with aclosing(worlds.trader), executing(world, executor_settings(world)):
        for number in range(RANDOM_FLOWS):
            price = await worlds.markets.pool_price(CHAIN_ID, world.market.pool)
            graph = random_flow(world, chance, int(price.price))
            trades += await worlds.run(f"random_{number}", graph, chance, BLOCKS_A_RANDOM_FLOW)
    refused = [made.failure_code for made in worlds.executor.trades.values() if made.fill is None]
    assert trades >= RANDOM_FLOWS // 2
    assert "per_trade_cap_exceeded" in refused
