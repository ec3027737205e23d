"""A trade from request to settlement, on a real chain through a real vault."""

from __future__ import annotations

from pathlib import Path

import msgspec

from devstack.executor_world import ONE_BASE, ONE_QUOTE, World
from devstack.uniswap import open_v2_exchange
from devstack.vaults import LocalVaults
from tradingflow.account_manager.trade import repository
from tradingflow.core.money import minus_bps
from tradingflow.messaging.messages import TradeSettled

REPOSITORY = Path(__file__).resolve().parents[4]
UNISWAP_V2_ROUTER = 2


async def open_v2_market(world: World) -> str:
    """A V2 router whose one pair holds both tokens of the market, allowed by the vault."""
    async with LocalVaults(world.anvil.url, REPOSITORY) as vaults:
        exchange = await open_v2_exchange(vaults.deployer, world.market)
        vault = vaults.deployer.at("Vault", world.vault)
        await vaults.deployer.send(vault.functions.setRouter(exchange.router, UNISWAP_V2_ROUTER))
    return exchange.router


async def test_requested_trade_is_mined_and_settled_with_what_the_chain_says(world: World) -> None:
    before = await world.balance(world.market.base_token)
    identity = await world.request_trade(100 * ONE_QUOTE)

    await world.executor().advance(identity)

    trade = await world.trade(identity)
    assert trade.status == "completed", (trade.failure_code, trade.failure_detail)
    assert trade.amount_out == await world.balance(world.market.base_token) - before
    assert trade.min_amount_out is not None
    assert 0 < trade.min_amount_out <= trade.amount_out
    (transaction,) = await world.transactions(identity)
    assert (transaction.status, transaction.hash) == ("mined", trade.transaction_hash)
    assert await world.executions(identity) == 1
    (message,) = await world.told()
    told = msgspec.json.decode(message.body, type=TradeSettled)
    assert (told.trade_id, told.cycle, told.node_id) == (identity, trade.cycle, "swap")


async def test_selling_works_as_buying_does(world: World) -> None:
    before = await world.balance(world.market.quote_token)
    identity = await world.request_trade(ONE_BASE // 10, sell_base=True)
    await world.executor().advance(identity)
    trade = await world.trade(identity)
    assert trade.status == "completed"
    assert trade.amount_out == await world.balance(world.market.quote_token) - before


async def test_trade_on_a_quiet_chain_is_simulated_at_the_present_time(world: World) -> None:
    # An hour without a block: by the newest one's clock, any deadline is too far ahead.
    world.anvil.rpc("evm_increaseTime", 3600)
    world.clock.ahead_s = 3600.0
    identity = await world.request_trade(ONE_QUOTE)
    await world.executor().advance(identity)
    trade = await world.trade(identity)
    assert trade.status == "completed", (trade.failure_code, trade.failure_detail)


async def test_a_sweep_pages_through_more_trades_than_fit_one_batch(world: World) -> None:
    identities = {await world.request_trade(ONE_QUOTE) for _ in range(5)}
    seen: list[str] = []
    last = None
    async with world.sessions() as session:
        while batch := await repository.unsettled(session, 2, (last.created_at, last.id) if last else None):
            seen += [trade.id for trade in batch]
            last = batch[-1]
    assert len(seen) == 5
    assert set(seen) == identities


async def test_v2_style_router_is_quoted_on_its_own_pairs_and_traded_through(world: World) -> None:
    router = await open_v2_market(world)
    before = await world.balance(world.market.base_token)
    identity = await world.request_trade(100 * ONE_QUOTE, v2_router=router)

    await world.executor().advance(identity)

    trade = await world.trade(identity)
    assert trade.status == "completed", (trade.failure_code, trade.failure_detail)
    assert trade.amount_out == await world.balance(world.market.base_token) - before
    assert trade.min_amount_out is not None
    assert trade.min_amount_out == minus_bps(trade.amount_out, trade.slippage_bps)  # the quote was exact
