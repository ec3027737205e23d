"""A paper flow on a real worker and a real market: the vault's own rules, the market's own price, no transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import func, select, update

from devstack.anvil import CHAIN_ID
from devstack.executor_world import ONE_QUOTE
from tests.integration.simulation.world import DEPOSIT, TRADE_CAP, World
from tests.integration.worker.conftest import tasks_by_node
from tradingflow.chain.uniswap import UniswapReader
from tradingflow.chain.vault import VaultContract
from tradingflow.core.evm import parse_address
from tradingflow.core.ids import trade_id
from tradingflow.db.models import Cycle, Flow, PaperVault, Trade
from tradingflow.py_worker.kit import SwapIntent
from tradingflow.py_worker.paper import trading
from tradingflow.py_worker.paper.terms import PolicyTerms
from tradingflow.py_worker.paper.trading import PaperTrades, ReadPrices

NAME = "paper_flow"


async def run_on_paper(world: World, **config: Any) -> Any:
    nodes, edges = world.flow(**config)
    await world.client.execute(NAME, nodes, edges, mode="paper")
    return await world.client.cycle_end(NAME)


async def paper_trades(world: World) -> list[Any]:
    page = await world.client.ok("GET", f"/paper/trades?flow_id={NAME}")
    trades: list[Any] = page["items"]
    return trades


async def paper_balances(world: World) -> dict[str, str]:
    vault = await world.client.ok("GET", f"/paper/vaults/{CHAIN_ID}/{world.vault}")
    balances: dict[str, str] = vault["balances"]
    return balances


async def test_a_paper_flow_trades_at_the_markets_price_and_leaves_the_chain_alone(world: World) -> None:
    path = bytes.fromhex(world.market.quote_token[2:]) + (3000).to_bytes(3) + bytes.fromhex(world.market.base_token[2:])
    expected = await UniswapReader(world.chain).quote(path, 500 * ONE_QUOTE)
    cycle = await run_on_paper(world, amount="500")
    assert cycle["status"] == "completed", cycle
    receipt = tasks_by_node(cycle)["buy"]["outputs"]["trade_receipt"]
    (trade,) = await paper_trades(world)
    assert (trade["status"], trade["amount_in"], trade["amount_out"]) == ("completed", "500000000", str(expected))
    assert receipt["amount_out"] == trade["amount_out"]
    async with world.sessions() as session:
        flow_pk = await session.scalar(select(Flow.id))
        assert flow_pk is not None
        assert receipt["trade_id"] == trade["trade_id"] == trade_id(flow_pk, 1, 0, "buy")
        assert await session.scalar(select(func.count()).select_from(Trade)) == 0
    held = await paper_balances(world)
    assert held[world.market.quote_token] == str(DEPOSIT - 500 * ONE_QUOTE)
    assert held[world.market.base_token] == str(expected)
    assert not await VaultContract(world.chain, world.vault).trade_used(trade["trade_id"])


async def test_paper_refuses_what_the_vault_would_revert(world: World) -> None:
    cycle = await run_on_paper(world, amount="1000.000001")
    assert cycle["status"] == "failed"
    assert tasks_by_node(cycle)["buy"]["error"]["error"] == "per_trade_cap_exceeded"
    (trade,) = await paper_trades(world)
    assert (trade["status"], trade["failure_code"]) == ("failed", "per_trade_cap_exceeded")
    assert f"cap {TRADE_CAP}" in trade["failure_detail"]
    assert (await paper_balances(world))[world.market.quote_token] == str(DEPOSIT)


@pytest.mark.parametrize(
    ("price", "outcome"), [("2010", None), ("2045", "price_sources_differ"), (None, "price_disagreement")]
)
async def test_paper_is_held_to_the_prices_the_executor_is_held_to(
    careful: World, price: str | None, outcome: str | None
) -> None:
    """Without another source the pool's spot and mean agree; a trade this large is far from both."""
    if price is not None:
        await careful.market_says(price)
        cycle = await run_on_paper(careful, amount="500")
    else:
        tokens: dict[str, Any] = {careful.market.quote_token: {}, careful.market.base_token: {}}
        policy = {"routers": {careful.market.swap_router: 1}, "tokens": tokens}
        balances = {careful.market.quote_token: str(100_000 * ONE_QUOTE)}
        await careful.client.ok(
            "PUT", f"/paper/vaults/{CHAIN_ID}/{careful.vault}", {"balances": balances, "policy": policy}
        )
        cycle = await run_on_paper(careful, amount="100000")
    error = tasks_by_node(cycle)["buy"]["error"]
    assert (error and error["error"]) == outcome, error
    (trade,) = await paper_trades(careful)
    assert trade["failure_code"] == outcome


async def test_a_share_of_the_balance_is_a_share_of_what_the_vault_holds_on_paper(world: World) -> None:
    policy = {
        "routers": {world.market.swap_router: 1},
        "tokens": {world.market.quote_token: {"per_day_cap": str(60 * ONE_QUOTE)}, world.market.base_token: {}},
    }
    terms = {"balances": {world.market.quote_token: str(80 * ONE_QUOTE)}, "policy": policy}
    await world.client.ok("PUT", f"/paper/vaults/{CHAIN_ID}/{world.vault}", terms)
    cycle = await run_on_paper(world, amount="50", amount_unit="percent")
    assert tasks_by_node(cycle)["buy"]["outputs"]["trade_receipt"]["amount_in"] == str(40 * ONE_QUOTE)
    await world.client.ok("POST", f"/flows/{NAME}/cycles")
    second = await world.client.cycle_end(NAME, 1)
    assert tasks_by_node(second)["buy"]["outputs"]["trade_receipt"]["amount_in"] == str(20 * ONE_QUOTE)
    await world.client.ok("POST", f"/flows/{NAME}/cycles")
    third = await world.client.cycle_end(NAME, 2)
    assert tasks_by_node(third)["buy"]["error"]["error"] == "per_day_cap_exceeded"


def price_source(number: int) -> str:
    return parse_address(f"0x{number:040x}")


async def cap_losses(world: World, source: str) -> None:
    market = world.market
    policy = {
        "routers": {market.swap_router: 1},
        "tokens": {market.quote_token: {}, market.base_token: {}},
        "loss_cap": {"price_source": source, "cap": "1", "window_s": 3600},
    }
    terms = {"balances": {market.quote_token: str(DEPOSIT)}, "policy": policy}
    await world.client.ok("PUT", f"/paper/vaults/{CHAIN_ID}/{world.vault}", terms)


def when_priced(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Awaitable[None]]) -> list[str]:
    """From now on every price source takes both sides of a trade for equal, after `meanwhile`; returns those asked."""
    asked: list[str] = []

    async def read(client: Any, policy: PolicyTerms, intent: SwapIntent, venue: Any) -> ReadPrices:
        assert policy.loss_cap is not None
        asked.append(policy.loss_cap.price_source)
        await meanwhile()
        sides = (intent.token_in, intent.amount_in), (intent.token_out, venue.amount_out)
        return ReadPrices({(parse_address(token), amount): 1 for token, amount in sides})

    monkeypatch.setattr(trading, "read_prices", read)
    return asked


async def test_no_lock_of_a_paper_vault_waits_for_its_price_source(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lock() -> None:
        async with world.sessions.begin() as session:
            await session.execute(select(PaperVault).with_for_update(nowait=True))

    await cap_losses(world, price_source(1))
    asked = when_priced(monkeypatch, lock)
    cycle = await run_on_paper(world, amount="5")
    assert cycle["status"] == "completed", cycle
    assert asked == [price_source(1)]


@pytest.mark.parametrize(("changes", "outcome"), [(2, None), (3, "vault_changed")])
async def test_a_paper_trade_is_priced_by_the_policy_it_is_held_to(
    world: World, monkeypatch: pytest.MonkeyPatch, changes: int, outcome: str | None
) -> None:
    async def change() -> None:
        if len(asked) <= changes:
            await cap_losses(world, price_source(len(asked) + 1))

    await cap_losses(world, price_source(1))
    asked = when_priced(monkeypatch, change)
    error = tasks_by_node(await run_on_paper(world, amount="5"))["buy"]["error"]
    assert (error and error["error"]) == outcome, error
    assert asked == [price_source(number) for number in (1, 2, 3)]
    assert [trade["status"] for trade in await paper_trades(world)] == ([] if outcome else ["completed"])


async def test_paper_vaults_and_trades_are_their_owners_only(world: World) -> None:
    await run_on_paper(world, amount="5")
    where = f"/paper/vaults/{CHAIN_ID}/{world.vault}"
    assert (await world.stranger.get(where)).status_code == 404
    assert (await world.stranger.http.delete(where, headers=world.stranger.headers)).status_code == 404
    assert (await world.stranger.get("/paper/trades")).json()["items"] == []
    assert (await world.stranger.get("/paper/vaults")).json()["items"] == []
    answer = await world.stranger.http.put(where, json={}, headers=world.stranger.headers)
    assert (answer.status_code, answer.json()["error"]) == (422, "nothing_to_copy")
    nodes, edges = world.flow(amount="5")
    await world.stranger.execute(NAME, nodes, edges, mode="paper")
    refused = tasks_by_node(await world.stranger.cycle_end(NAME))["buy"]["error"]["error"]
    assert refused == "unknown_vault"


async def test_a_paper_node_that_runs_twice_trades_once(world: World) -> None:
    """As after a crash: two runs of the same node at once, on another cycle than the one that ended."""
    await run_on_paper(world, amount="5")
    paper = world.app.state.parts.around.paper
    async with world.sessions.begin() as session:
        flow = (await session.scalars(select(Flow))).one()
    live = _Live((flow.id, 0), world.client.user_id)
    market = world.market
    path = bytes.fromhex(market.quote_token[2:]) + (3000).to_bytes(3) + bytes.fromhex(market.base_token[2:])
    intent = SwapIntent(CHAIN_ID, world.vault, path, market.quote_token, market.base_token, 7 * ONE_QUOTE, 50)
    trades = PaperTrades(paper, live, "other", world.app.state.parts.around.markets)  # type: ignore[arg-type]
    async with world.sessions.begin() as session:
        await _reopen(session, flow.id)
    first, second = await asyncio.gather(trades.swap(intent), trades.swap(intent))
    assert first == second == await trades.resume()
    assert len(await paper_trades(world)) == 2
    assert (await paper_balances(world))[market.quote_token] == str(DEPOSIT - 12 * ONE_QUOTE)


class _Live:
    """What a gateway needs of a cycle."""

    version = 1

    def __init__(self, key: Any, user_id: Any) -> None:
        self.key = key
        self.user_id = user_id


async def _reopen(session: Any, flow_pk: Any) -> None:
    await session.execute(update(Cycle).where(Cycle.flow_pk == flow_pk).values(status="running"))
