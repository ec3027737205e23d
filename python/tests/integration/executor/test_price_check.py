"""No trade on a price that sources do not agree on, that is old, or that the quote is far from."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from devstack.anvil import CHAIN_ID
from devstack.executor_world import ONE_QUOTE, World
from devstack.uniswap import open_v2_exchange
from devstack.vaults import LocalVaults
from tradingflow.chain.swap_path import SwapPath
from tradingflow.chain.vault_policy import KIND_UNISWAP_V2
from tradingflow.prices import points
from tradingflow.prices.agreement import Quote
from tradingflow.prices.check import share_after_fees

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
def careful(world: World) -> World:
    """An executor that needs agreed prices, and a pool that remembers the last minutes."""
    world.settings = world.settings.model_copy(update={"trade_price_check": "required"})
    world.anvil.rpc("evm_increaseTime", 400)
    world.anvil.rpc("anvil_mine", "0x1")
    world.clock.ahead_s = 400.0
    return world


async def market_says(world: World, price: str) -> None:
    quote = Quote("coingecko", "coingecko", Decimal(price), world.clock.now())
    async with world.sessions() as session, session.begin():
        await points.keep(session, CHAIN_ID, world.market.base_token, [quote])


async def outcome_of(world: World, amount_in: int = ONE_QUOTE, v2_router: str | None = None) -> str | None:
    """`completed`, or the code of the refusal, which sent nothing."""
    identity = await world.request_trade(amount_in, v2_router=v2_router)
    await world.executor().advance(identity)
    trade = await world.trade(identity)
    if trade.status == "failed":
        assert await world.transactions(identity) == []
        return trade.failure_code
    return trade.status


async def test_trade_goes_out_while_pool_and_market_agree(careful: World) -> None:
    await market_says(careful, "2010")
    assert await outcome_of(careful) == "completed"


async def test_market_and_pool_further_apart_than_two_percent_refuse(careful: World) -> None:
    await market_says(careful, "2045")
    assert await outcome_of(careful) == "price_sources_differ"


async def test_price_as_old_as_a_chain_that_stands_still_refuses(careful: World) -> None:
    careful.clock.ahead_s += 200
    assert await outcome_of(careful) == "price_stale"


async def test_pool_that_nobody_confirms_refuses(world: World) -> None:
    world.settings = world.settings.model_copy(update={"trade_price_check": "required"})
    assert await outcome_of(world) == "price_too_few_sources"


async def test_quote_far_from_the_agreed_prices_refuses_although_the_sources_agree(careful: World) -> None:
    async with LocalVaults(careful.anvil.url, REPOSITORY) as vaults:
        vault = vaults.deployer.at("Vault", careful.vault)
        await vaults.deposit(vault, careful.market.quote_token, 100_000 * ONE_QUOTE)
    assert await outcome_of(careful, 100_000 * ONE_QUOTE) == "price_disagreement"
    assert await outcome_of(careful, 10_000 * ONE_QUOTE) == "completed"


@pytest.mark.parametrize(("quote", "outcome"), [("200000", "completed"), ("210000", "price_disagreement")])
async def test_the_quote_of_a_v2_pair_is_held_to_the_agreed_prices_too(
    careful: World, quote: str, outcome: str
) -> None:
    """The V3 pool and the market agree on 2000; the pair the trade would go through may say something else."""
    async with LocalVaults(careful.anvil.url, REPOSITORY) as vaults:
        exchange = await open_v2_exchange(vaults.deployer, careful.market, quote=Decimal(quote))
        vault = vaults.deployer.at("Vault", careful.vault)
        await vaults.deployer.send(vault.functions.setRouter(exchange.router, KIND_UNISWAP_V2))
    await market_says(careful, "2000")
    assert await outcome_of(careful, v2_router=exchange.router) == outcome


async def test_the_check_is_off_where_the_settings_say_so_and_on_outside_of_local_chains(careful: World) -> None:
    assert careful.settings.model_copy(update={"environment": "production", "trade_price_check": None}).checks_prices
    careful.settings = careful.settings.model_copy(update={"trade_price_check": None})
    await market_says(careful, "2045")
    assert await outcome_of(careful) == "completed"


@pytest.mark.parametrize(("fees", "share"), [((3000,), "0.997"), ((500, 10_000), "0.989505"), ((), "0.997")])
def test_each_pool_of_a_path_takes_its_fee(fees: tuple[int, ...], share: str) -> None:
    tokens = tuple(f"0x{number:040x}" for number in range(1, max(len(fees), 1) + 2))
    assert share_after_fees(SwapPath(tokens, fees)) == Decimal(share)
