"""`dex_price_node` on a real Uniswap V2 pair."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from devstack.anvil import CHAIN_ID, Anvil
from devstack.uniswap import LocalMarket, V2Exchange, open_v2_exchange
from devstack.vaults import LocalVaults
from tests.integration.nodes.conftest import REPOSITORY
from tradingflow.chain.client import ChainClient
from tradingflow.chain.swap_path import encode_path
from tradingflow.core.errors import Refused
from tradingflow.py_worker.kit.testing import MemoryContext
from tradingflow.py_worker.nodes.dex_price_node import DexPriceNode
from tradingflow.py_worker.onchain_markets import OnChainMarkets

ONE_ETHER = 10**18


@pytest.fixture
async def exchange(anvil: Anvil, market: LocalMarket) -> V2Exchange:
    """100 ether and 200,000 dollars in one pair; the chain's settings name another router."""
    async with LocalVaults(anvil.url, REPOSITORY) as vaults:
        return await open_v2_exchange(vaults.deployer, market)


@pytest.fixture
def context(client: ChainClient) -> MemoryContext:
    return MemoryContext(markets=OnChainMarkets({CHAIN_ID: client}))


async def read(context: MemoryContext, exchange: V2Exchange, **config: Any) -> dict[str, Any]:
    outputs = await DexPriceNode().execute(context, {"chain_id": CHAIN_ID, "pool": exchange.pair, **config}, {})
    return outputs.signals()


async def test_the_price_is_that_of_the_reserves(context: MemoryContext, exchange: V2Exchange) -> None:
    assert Decimal((await read(context, exchange))["price"]) == 2000


async def test_from_the_other_side_it_is_the_inverse(
    context: MemoryContext, exchange: V2Exchange, market: LocalMarket
) -> None:
    assert Decimal((await read(context, exchange, base_token=market.quote_token))["price"]) == Decimal("0.0005")


async def test_the_quote_is_what_the_pairs_own_router_says(
    context: MemoryContext, exchange: V2Exchange, market: LocalMarket, anvil: Anvil
) -> None:
    quote = (await read(context, exchange, quote_amount="3"))["quote"]
    async with LocalVaults(anvil.url, REPOSITORY) as vaults:
        router = vaults.deployer.at("UniswapV2Router02", exchange.router)
        path = [market.base_token, market.quote_token]
        _, expected = await router.functions.getAmountsOut(3 * ONE_ETHER, path).call()
    assert (quote["amount_in"], quote["amount_out"]) == (str(3 * ONE_ETHER), str(expected))
    assert (quote["token_in"], quote["token_out"]) == (market.base_token, market.quote_token)


async def test_an_average_is_refused_as_a_pair_keeps_no_history(context: MemoryContext, exchange: V2Exchange) -> None:
    with pytest.raises(Refused, match="twap_unsupported: a V2 pair keeps no history; use the spot price or a V3 pool"):
        await read(context, exchange, twap_s=60)


async def test_a_v2_quote_on_a_v3_router_says_what_is_needed(context: MemoryContext, market: LocalMarket) -> None:
    path = encode_path([market.base_token, market.quote_token])
    with pytest.raises(Refused, match="not_a_v2_router"):
        await context.markets.quote(CHAIN_ID, path, ONE_ETHER)
