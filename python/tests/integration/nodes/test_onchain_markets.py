"""Prices, quotes and balances against published Uniswap contracts on a real chain."""

from decimal import Decimal

import pytest

from devstack.anvil import CHAIN_ID, Anvil
from devstack.uniswap import LocalMarket
from tradingflow.chain.client import ChainClient
from tradingflow.chain.swap_path import encode_path
from tradingflow.core.errors import DependencyUnavailable, Refused
from tradingflow.py_worker.onchain_markets import OnChainMarkets

ONE_ETHER = 10**18


@pytest.fixture
def markets(client: ChainClient) -> OnChainMarkets:
    return OnChainMarkets({CHAIN_ID: client})


async def test_a_pool_of_18_and_6_decimals_shows_its_price_in_whole_tokens(
    markets: OnChainMarkets, market: LocalMarket
) -> None:
    price = await markets.pool_price(CHAIN_ID, market.pool)
    assert price.base_token.address == market.base_token
    assert (price.base_token.decimals, price.quote_token.decimals) == (18, 6)
    assert abs(price.price - 2000) < Decimal("0.0001")
    assert price.block_number > 0


async def test_the_price_from_the_other_side_is_its_inverse(markets: OnChainMarkets, market: LocalMarket) -> None:
    price = await markets.pool_price(CHAIN_ID, market.pool, market.quote_token)
    assert abs(price.price - Decimal("0.0005")) < Decimal("0.0000000001")


async def test_a_quote_is_below_spot_by_fee_and_impact(markets: OnChainMarkets, market: LocalMarket) -> None:
    path = encode_path([market.base_token, market.quote_token], [market.fee])
    quote = await markets.quote(CHAIN_ID, path, ONE_ETHER)
    # Constant product with 1000 : 2,000,000 and 0.3 % fee.
    expected = Decimal(2_000_000) * Decimal("0.997") / (1000 + Decimal("0.997"))
    assert abs(quote.price - expected) < Decimal("0.001")
    assert quote.amount_out == int(quote.price.scaleb(6))


async def test_a_quote_too_small_to_pay_anything_is_refused_and_never_zero(
    markets: OnChainMarkets, market: LocalMarket
) -> None:
    path = encode_path([market.base_token, market.quote_token], [market.fee])
    with pytest.raises(Refused) as refused:
        await markets.quote(CHAIN_ID, path, 1)
    assert refused.value.code in {"quote_zero", "quote_refused"}


async def test_a_path_without_pool_is_refused(markets: OnChainMarkets, market: LocalMarket) -> None:
    path = encode_path([market.base_token, market.weth], [market.fee])
    with pytest.raises(Refused, match="quote_refused"):
        await markets.quote(CHAIN_ID, path, ONE_ETHER)


@pytest.mark.parametrize("address", ["weth", "nobody"])
async def test_an_address_that_is_no_pool_is_refused_by_name(
    markets: OnChainMarkets, market: LocalMarket, address: str
) -> None:
    target = market.weth if address == "weth" else "0x00000000000000000000000000000000000000aa"
    with pytest.raises(Refused, match="not_a_pool"):
        await markets.pool_price(CHAIN_ID, target)


async def test_the_average_price_of_a_quiet_pool_is_its_spot_price(
    markets: OnChainMarkets, market: LocalMarket, anvil: Anvil
) -> None:
    anvil.rpc("evm_increaseTime", 120)
    anvil.rpc("evm_mine")
    mean = await markets.pool_twap(CHAIN_ID, market.pool, 60)
    assert abs(mean.price / 2000 - 1) < Decimal("0.0001")  # a tick is a basis point wide


async def test_an_average_longer_than_the_pool_remembers_is_refused(
    markets: OnChainMarkets, market: LocalMarket
) -> None:
    with pytest.raises(Refused, match="twap_too_long"):
        await markets.pool_twap(CHAIN_ID, market.pool, 86_400)


async def test_balances_of_several_tokens_are_read_at_one_block(markets: OnChainMarkets, market: LocalMarket) -> None:
    balances = await markets.balances(CHAIN_ID, market.pool, [market.base_token, market.quote_token])
    assert abs(balances[market.base_token] - 1000 * ONE_ETHER) < 10**12
    assert abs(balances[market.quote_token] - 2_000_000 * 10**6) < 10


async def test_a_dead_rpc_is_a_retryable_error(markets: OnChainMarkets, market: LocalMarket, anvil: Anvil) -> None:
    await markets.pool_price(CHAIN_ID, market.pool)
    anvil.kill()
    with pytest.raises(DependencyUnavailable, match="rpc_unavailable"):
        await markets.pool_price(CHAIN_ID, market.pool)
