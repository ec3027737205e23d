"""A real Uniswap market on a private chain."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from devstack.anvil import CHAIN_ID, Anvil
from devstack.uniswap import LocalMarket, deploy_market
from tests.deployed_chain import with_contracts
from tests.integration.local_server import LocalServer, server
from tradingflow.chain.client import ChainClient
from tradingflow.core.config import ChainSettings
from tradingflow.outbound.client import GuardedHttp
from tradingflow.py_worker.kit.testing import MemoryContext, MemorySecrets

__all__ = ["LocalServer", "server"]

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
async def market(anvil: Anvil) -> LocalMarket:
    return await with_contracts(anvil, "market", lambda: deploy_market(anvil.url, REPOSITORY))


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


@pytest.fixture
async def ctx() -> AsyncIterator[MemoryContext]:
    """A node's context whose HTTP is the real guarded client, allowed to reach this machine's loopback address."""
    http = GuardedHttp(allowed=[ip_network("127.0.0.1/32")])
    yield MemoryContext(http=http, secrets=MemorySecrets({"key": "sekret-123"}))
    await http.close()
