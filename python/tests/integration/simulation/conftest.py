"""Real Uniswap pools that tests fill with liquidity and swap against at will."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from web3 import AsyncHTTPProvider, AsyncWeb3

from devstack.anvil import Anvil
from devstack.uniswap import Artifacts, Deployer
from tests.integration.simulation.world import World, paper_world
from tests.integration.worker.conftest import engine, sessions, settings
from tradingflow.core.config import WorkerSettings
from tradingflow.db.engine import SessionFactory

__all__ = ["engine", "sessions", "settings"]

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
async def deployer(anvil: Anvil) -> AsyncIterator[Deployer]:
    web3 = AsyncWeb3(AsyncHTTPProvider(anvil.url))
    yield Deployer(web3, Artifacts(REPOSITORY), (await web3.eth.accounts)[0])
    await web3.provider.disconnect()


@pytest.fixture
async def careful(anvil: Anvil, settings: WorkerSettings, sessions: SessionFactory) -> AsyncIterator[World]:
    """A world whose trades need agreed prices, and whose pool remembers the last minutes."""
    held = settings.model_copy(update={"trade_price_check": "required"})
    async with paper_world(anvil, held, sessions) as world:
        anvil.rpc("evm_increaseTime", 400)
        anvil.rpc("anvil_mine", "0x1")
        yield world


@pytest.fixture
async def world(anvil: Anvil, settings: WorkerSettings, sessions: SessionFactory) -> AsyncIterator[World]:
    async with paper_world(anvil, settings, sessions) as world:
        yield world
