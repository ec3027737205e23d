"""Backtest equals live: the same flow, unchanged, over the same history of a pool.

Live through the real worker, executor, vault and Uniswap contracts while others swap; beside it in memory, whose state
is never brought together with the chain's again; and afterwards as a backtest over the blocks that were recorded.
Decisions, trade ids and fills must be the same, to the last unit.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import select

from devstack.anvil import CHAIN_ID
from devstack.uniswap import BASE_DECIMALS, QUOTE_DECIMALS
from tests.integration.simulation.live import executing, executor_settings
from tests.integration.simulation.pool_run import PoolRun
from tests.integration.simulation.trader import Trader
from tests.integration.simulation.world import World, edge
from tests.integration.worker.conftest import tasks_by_node
from tradingflow.chain.pool_snapshot import read_pool
from tradingflow.chain.vault_policy import VaultPolicy
from tradingflow.chain.vault_settings import read_vault
from tradingflow.core.clock import SimulatedClock
from tradingflow.db.models import Flow, Trade
from tradingflow.py_worker.backtest.pool_trading import RecordedPool
from tradingflow.py_worker.backtest.result import BacktestResult
from tradingflow.py_worker.backtest.run import backtest, flow_under_test
from tradingflow.py_worker.backtest.spec import BacktestSpec
from tradingflow.py_worker.engine.graph import build_graph
from tradingflow.py_worker.simulation.gateway import NodeIdentity, SimulatedChain, SimulatedExecutor, SimulatedTrade
from tradingflow.py_worker.simulation.pool_history import PoolBlock, PoolHistory
from tradingflow.py_worker.simulation.pool_markets import PoolMarkets
from tradingflow.py_worker.simulation.vault import SimulatedVault
from tradingflow.py_worker.simulation.venue import PoolVenue

BLOCKS = 12
BLOCK_S = 12
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
        recording = await self._begin_recording(name, graph, flow_pk)
        for number in range(blocks):
            recording.blocks.append(await self._happen(tested, chance))
            await client.ok("POST", f"/flows/{name}/cycles")
            live = tasks_by_node(await client.cycle_end(name, number))
            simulated = await tested.cycle(number)
            assert {node: _told(task["status"], task["outputs"], task["error"]) for node, task in live.items()} == {
                node: _told(outcome.status, outcome.outputs, outcome.error) for node, outcome in simulated.items()
            }, (name, number)
            recording.decided.append({node: _decision(task) for node, task in live.items()})
        recording.compare({made.trade_id: made for made in self._made(flow_pk)})
        return await self._compare_trades(flow_pk)

    def _made(self, flow_pk: UUID) -> Iterable[SimulatedTrade]:
        return (made for made in self.executor.trades.values() if made.identity.flow_pk == flow_pk)

    async def _begin_recording(self, name: str, graph: dict[str, Any], flow_pk: UUID) -> Recording:
        vault = self.executor.vaults[CHAIN_ID, self.world.vault]
        (pool,) = cast("PoolVenue", self.executor.chains[CHAIN_ID].venue).pools.values()
        start_ms = int(self.clock.now().timestamp()) * 1000
        return Recording(self.world, name, graph, flow_pk, pool, vault.policy, dict(vault.balances), start_ms)

    async def _happen(self, tested: PoolRun, chance: random.Random) -> PoolBlock:
        """One block of others' swaps, on chain and in the recording."""
        events = [await self.trader.swap(chance) for _ in range(chance.randrange(3))]
        self.block += 1
        block = PoolBlock(self.block, int(self.clock.now().timestamp()) + BLOCK_S, events)
        tested.follow(block)
        return block

    async def _compare_trades(self, flow_pk: Any) -> int:
        async with self.world.sessions() as session:
            rows = (await session.scalars(select(Trade).where(Trade.flow_pk == flow_pk))).all()
        mine = {made.trade_id: made for made in self._made(flow_pk)}
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


@dataclass
class Recording:
    """What a flow met and did, to be tested on: the pool, the vault's balances and the time before its first block."""

    world: World
    name: str
    graph: dict[str, Any]
    flow_pk: UUID
    pool: Any
    policy: VaultPolicy
    balances: dict[str, int]
    start_ms: int
    blocks: list[PoolBlock] = field(default_factory=list)
    decided: list[dict[str, Any]] = field(default_factory=list)

    def compare(self, made: Mapping[str, SimulatedTrade]) -> None:
        """Fails the test where a backtest over the recording decides or fills otherwise."""
        result = self._backtest()
        timeline = result.timeline
        failures = {(found.cycle, found.node_id): found.code for found in timeline.failures}
        for cycle, live in enumerate(self.decided):
            decisions = {
                node: timeline.decisions[code]
                for node, code in zip(timeline.nodes, timeline.codes[:, cycle], strict=True)
            }
            assert live == {
                node: (decision.status, decision.handles, failures.get((cycle, node)))
                for node, decision in decisions.items()
            }, (self.name, cycle)
        filled = {identity: trade for identity, trade in made.items() if trade.fill is not None}
        assert {trade.receipt.trade_id: trade.receipt.amount_out for trade in result.trades} == {
            identity: trade.fill.amount_out for identity, trade in filled.items() if trade.fill is not None
        }
        assert result.world.ledger.refusals.total() == len(made) - len(filled)

    def _backtest(self) -> BacktestResult:
        market, last_ms = self.world.market, self.blocks[-1].timestamp * 1000
        decimals = (BASE_DECIMALS, QUOTE_DECIMALS)
        if self.pool.token0 != market.base_token:
            decimals = decimals[::-1]
        history = PoolHistory(
            CHAIN_ID, market.pool, *decimals, market.base_token, self.pool, self.start_ms, last_ms + 1000, self.blocks
        )
        caps = {token: {"per_trade_cap": str(rule.per_trade_cap)} for token, rule in self.policy.tokens.items()}
        spec = BacktestSpec.model_validate(
            {
                "from": datetime.fromtimestamp(self.blocks[0].timestamp, UTC),
                "cycle_interval": BLOCK_S,
                "initial_balances": self.balances,
                "policy": {"tokens": caps, "cooldown_s": self.policy.cooldown_s},
            }
        )
        flow = flow_under_test(self.graph, self.name, flow_pk=self.flow_pk)
        return backtest(flow, [], spec, pools=[RecordedPool("BASE", 1000, history)])


def _decision(task: Any) -> tuple[str, tuple[str, ...], str | None]:
    return task["status"], tuple(sorted(task["outputs"] or {})), (task["error"] or {}).get("error")


def _told(status: str, outputs: Any, error: Any) -> tuple[Any, ...]:
    """What of a node must be equal."""
    return status, _placeless(outputs or {}), (error or {}).get("error")


def _placeless(value: Any) -> Any:
    """Without where on chain a trade was mined, which cannot be equal."""
    if isinstance(value, dict):
        return {k: _placeless(held) for k, held in value.items() if k not in ("transaction_hash", "block_number")}
    return value


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
