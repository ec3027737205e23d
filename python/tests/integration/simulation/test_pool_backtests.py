"""Backtests in pools out of what the real Monitor stored of them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from devstack.anvil import CHAIN_ID
from devstack.executor_world import ONE_QUOTE
from devstack.uniswap import FAR_FUTURE, Deployer
from tests.integration.monitor.stored import Stored, catch_up
from tests.integration.simulation.markets import V2Market, V3Market
from tests.integration.simulation.trader import Trader
from tests.integration.simulation.world import World
from tests.integration.worker.conftest import until
from tradingflow.chain.client import ChainClient
from tradingflow.chain.pool_snapshot import read_pool
from tradingflow.chain.registry import AbiRegistry
from tradingflow.chain.swap_path import encode_path
from tradingflow.chain.uniswap import UniswapReader
from tradingflow.core.errors import InvalidInput
from tradingflow.db.engine import SessionFactory
from tradingflow.db.models import ContractEvent, MonitoredContract
from tradingflow.monitor.server import follow_chain
from tradingflow.py_worker.backtests import pool_events
from tradingflow.py_worker.backtests.pool_events import pool_history
from tradingflow.py_worker.simulation.pool_history import PoolHistory, read_history
from tradingflow.py_worker.simulation.pool_replay import recorded


async def monitored(
    world: World, engine: AsyncEngine, pool: str, kind: str = "uniswap_v3_pool", from_block: int = 0
) -> None:
    """Have the Monitor store a pool up to the head of the chain."""
    await Stored(engine, CHAIN_ID).monitor(pool, kind, from_block)
    settings = world.chain.settings.model_copy(update={"pools": (), "poll_interval_s": 0.05})
    async with follow_chain(settings, engine, AbiRegistry()) as follower:
        await catch_up(follower)


async def time_of(chain: ChainClient, block: int | None = None) -> datetime:
    found = await chain.web3.eth.get_block("latest" if block is None else block)
    return datetime.fromtimestamp(found["timestamp"], UTC)


async def head(chain: ChainClient) -> int:
    return int(await chain.web3.eth.block_number)


def ends_as(history: PoolHistory) -> Any:
    """The pool after everything that was recorded."""
    pool: Any = history.pool
    for block in history.blocks:
        for event in block.events:
            pool = recorded(pool, event)
    return pool


@asynccontextmanager
async def trader_in(world: World) -> AsyncIterator[Trader]:
    trader = await Trader.of(world)
    try:
        yield trader
    finally:
        await trader.aclose()


async def test_a_backtest_trades_in_the_pool_the_monitor_stored(world: World, engine: AsyncEngine) -> None:
    chance, market, chain = random.Random(5), world.market, world.chain
    async with trader_in(world) as trader:
        for _ in range(3):
            await trader.swap(chance)
        start, begun = await time_of(chain), await head(chain)
        for _ in range(6):
            await trader.swap(chance)
    end = await time_of(chain) + timedelta(seconds=1)
    world.anvil.rpc("evm_increaseTime", 2)
    world.anvil.rpc("evm_mine")
    await monitored(world, engine, market.pool)

    nodes, edges = world.flow(amount="300", slippage_bps=100)
    flow = {"nodes": nodes, "edges": edges}
    data = [{"symbol": "ETH", "pool": market.pool, "interval": "1s"}]
    asked = {"flow_json": flow, "data": data, "from": start.isoformat(), "to": end.isoformat()}
    job = await world.client.ok("POST", "/backtests", {**asked, "cycle_interval": "10m"})

    async def ended() -> Any:
        view = await world.client.ok("GET", f"/backtests/{job['id']}")
        return view if view["status"] not in ("queued", "running") else None

    view = await until(ended)
    assert (view["status"], view["failure"]) == ("completed", None)
    result = await world.client.ok("GET", f"/backtests/{job['id']}/result")
    (trade,) = result["trades"]
    # One cycle, when the first candle has closed: what the chain's own quoter said at the newest block of then.
    cycle = datetime.fromisoformat(trade["decided_at"])
    block = begun
    while await time_of(chain, block + 1) <= cycle:
        block += 1
    path = encode_path((market.quote_token, market.base_token), (market.fee,))
    quoted = await UniswapReader(chain).quote(path, 300 * ONE_QUOTE, block)
    assert int(trade["amount_out"]) == quoted
    assert result["markets"][0]["candles"] == round((end - start).total_seconds())


async def test_a_v3_pool_is_rebuilt_from_its_events(
    world: World, engine: AsyncEngine, sessions: SessionFactory, deployer: Deployer
) -> None:
    chain = world.chain
    market = await V3Market.deploy(deployer, 500, 2**96)
    first = await market.add(-600, 600, (10**20, 10**20))
    await market.add(-60, 60, (10**21, 10**21))
    await market.swap(market_path(market, 0), 10**19)
    start, begun = await time_of(chain), await head(chain)
    world.anvil.rpc("evm_increaseTime", 5)
    await market.remove(first, 100)
    await market.add(0, 1200, (10**20, 10**20))
    await market.swap(market_path(market, 1), 3 * 10**20)
    end = await time_of(chain)
    await monitored(world, engine, market.pool.address)
    found = read_history(await pool_history(sessions, chain, market.pool.address, start, end))
    assert found.pool == await read_pool(chain, market.pool.address, begun)
    assert ends_as(found) == await read_pool(chain, market.pool.address)
    half = read_history(await pool_history(sessions, chain, market.pool.address, end, end))
    assert half.pool == ends_as(found)
    assert half.blocks == []


def market_path(market: V3Market, sold: int) -> bytes:
    addresses = [token.address for token in market.tokens]
    return encode_path([addresses[sold], addresses[1 - sold]], (market.fee,))


async def test_a_v2_pair_is_rebuilt_from_its_events(
    world: World, engine: AsyncEngine, sessions: SessionFactory, deployer: Deployer
) -> None:
    chain = world.chain
    market = await V2Market.deploy(deployer, (10**21, 3 * 10**21))
    await market.swap(0, 10**18)
    start, begun = await time_of(chain), await head(chain)
    world.anvil.rpc("evm_increaseTime", 5)
    await market.swap(1, 10**19)
    await market.deployer.send(market.tokens[0].functions.transfer(market.pair.address, 10**17))
    await market.deployer.send(market.pair.functions.sync())
    end = await time_of(chain)
    await monitored(world, engine, market.pair.address, "uniswap_v2_pair")
    found = read_history(await pool_history(sessions, chain, market.pair.address, start, end))
    assert found.pool == await read_pool(chain, market.pair.address, begun)
    assert ends_as(found) == await market.as_pool()
    told = [(event.name, sorted(event.args)) for block in found.blocks for event in block.events]
    reserves = ["reserve0", "reserve1"]
    assert told == [("Swap", ["amount0In", "amount0Out", "amount1In", "amount1Out", *reserves]), ("Sync", reserves)]


async def test_a_history_that_is_not_stored_is_refused(
    world: World, engine: AsyncEngine, sessions: SessionFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, pool = world.chain, world.market.pool
    now = await time_of(chain)

    async def refusal(start: datetime = now, end: datetime = now) -> str:
        with pytest.raises(InvalidInput) as refused:
            await pool_history(sessions, chain, pool, start, end)
        return refused.value.code

    assert await refusal() == "contract_not_monitored"
    await monitored(world, engine, pool)
    assert await refusal(end=now + timedelta(seconds=90)) == "history_incomplete"
    assert await refusal(start=now - timedelta(days=1)) == "no_price_yet"
    monkeypatch.setattr(pool_events, "MAX_EVENTS", -1)
    assert await refusal() == "too_many_events"
    async with sessions.begin() as session:
        await session.execute(update(MonitoredContract).values(live_from=10, history_next=9))
    assert await refusal() == "history_incomplete"


async def test_a_v3_pool_that_is_not_followed_from_its_creation_is_refused(world: World, engine: AsyncEngine) -> None:
    chance, market = random.Random(5), world.market
    first = await head(world.chain) + 1
    async with trader_in(world) as trader:
        for _ in range(3):
            await trader.swap(chance)
    start = await time_of(world.chain)
    world.anvil.rpc("evm_increaseTime", 10)
    world.anvil.rpc("evm_mine")
    end = await time_of(world.chain)
    await monitored(world, engine, market.pool, from_block=first)

    nodes, edges = world.flow(amount="300", slippage_bps=100)
    data = [{"symbol": "ETH", "pool": market.pool, "interval": "1s"}]
    asked = {"flow_json": {"nodes": nodes, "edges": edges}, "data": data, "cycle_interval": "10m"}
    answer = await world.client.post("/backtests", {**asked, "from": start.isoformat(), "to": end.isoformat()})
    assert (answer.status_code, answer.json()["error"]) == (422, "history_incomplete"), answer.text
    assert f"begin after its creation: have the Monitor follow {market.pool} from its creation" in answer.text


async def test_a_v3_pool_whose_events_do_not_add_up_is_refused(
    world: World, engine: AsyncEngine, sessions: SessionFactory, deployer: Deployer
) -> None:
    market = await V3Market.deploy(deployer, 500, 2**96)
    await market.add(-600, 600, (10**20, 10**20))
    left = await market.add(600, 1200, (10**20, 10**20))
    await market.swap(market_path(market, 0), 10**18)
    await market.remove(left, 100)
    around = await market.add(-60, 0, (10**20, 10**20))
    await market.swap(market_path(market, 0), 10**17)
    # By what happened since the swap as much ends at -60 as no longer begins there: it stays crossed all the same.
    below = await market.add(-120, -60, (10**18, 10**18))
    as_much = (await market.manager.functions.positions(below).call())[7]
    await deployer.send(market.manager.functions.decreaseLiquidity((around, as_much, 0, 0, FAR_FUTURE)))
    await monitored(world, engine, market.pool.address)
    now = await time_of(world.chain)
    args = ContractEvent.args

    async def history() -> str:
        return await pool_history(sessions, world.chain, market.pool.address, now, now)

    assert read_history(await history()).pool == await read_pool(world.chain, market.pool.address)
    for lost in (args["tickLower"].astext == "-600", args["tickLower"].astext == "600"):
        mint = (ContractEvent.address == market.pool.address, ContractEvent.name == "Mint", lost)
        async with sessions.begin() as session:
            row = (await session.execute(select(ContractEvent.__table__).where(*mint))).one()
            await session.execute(delete(ContractEvent).where(*mint))
        with pytest.raises(InvalidInput, match="do not add up") as refused:
            await history()
        assert refused.value.code == "history_incomplete"
        async with sessions.begin() as session:
            await session.execute(insert(ContractEvent).values(dict(row._mapping)))


async def test_a_request_for_a_pool_says_what_it_lacks(world: World) -> None:
    nodes, edges = world.flow(amount="300")
    series = {"symbol": "ETH", "pool": world.market.pool, "interval": "1s"}
    now = (await time_of(world.chain)).isoformat()
    asked = {"flow_json": {"nodes": nodes, "edges": edges}, "data": [series], "from": "2020-01-01T00:00:00Z", "to": now}
    for more, code in (
        ({"to": None}, "invalid_request"),
        ({"data": [{**series, "interval": None}]}, "invalid_request"),
        ({"data": [{**series, "exchange": "binance"}]}, "invalid_request"),
        ({"data": [{"symbol": "ETH", "csv": "x", "chain_id": 1}]}, "invalid_request"),
        ({"data": [{**series, "symbol": f"ETH{n}"} for n in range(4)]}, "invalid_request"),
        ({"data": [{**series, "chain_id": 5}]}, "unknown_chain"),
        ({"data": [{**series, "pool": world.market.base_token}]}, "not_a_pool"),
        ({}, "contract_not_monitored"),
    ):
        answer = await world.client.post("/backtests", {**asked, **more})
        assert (answer.status_code < 500, answer.json()["error"]) == (True, code), answer.text
