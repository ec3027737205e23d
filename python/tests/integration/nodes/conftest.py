"""A real Uniswap market on a private chain."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devstack.anvil import CHAIN_ID, Anvil
from devstack.uniswap import LocalMarket, deploy_market
from tradingflow.chain.client import ChainClient
from tradingflow.core.config import ChainSettings

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
async def market(anvil: Anvil) -> LocalMarket:
    return await deploy_market(anvil.url, REPOSITORY)


@pytest.fixture
async def client(anvil: Anvil, market: LocalMarket) -> AsyncIterator[ChainClient]:
    settings = ChainSettings(
        chain_id=CHAIN_ID,
        name="local",
        rpc_urls=(anvil.url,),
        swap_router=market.swap_router,
        quoter=market.quoter,
        pools=(market.pool,),
        quote_token=market.quote_token,
    )
    client = ChainClient(settings)
    yield client
    await client.close()
