"""Somebody else in the market."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from web3 import AsyncHTTPProvider, AsyncWeb3

from devstack.executor_world import ONE_BASE, ONE_QUOTE
from devstack.uniswap import FAR_FUTURE, Artifacts, Deployer
from tests.integration.simulation.world import REPOSITORY, World
from tradingflow.chain.swap_path import encode_path
from tradingflow.core.money import MAX_UINT256
from tradingflow.py_worker.simulation.pool_history import PoolEvent


@dataclass
class Trader:
    """Somebody else in the same pool."""

    world: World
    deployer: Deployer
    router: Any

    @classmethod
    async def of(cls, world: World) -> Trader:
        web3 = AsyncWeb3(AsyncHTTPProvider(world.anvil.url))
        deployer = Deployer(web3, Artifacts(REPOSITORY), list(await web3.eth.accounts)[3])
        market = world.market
        for token, amount in ((market.base_token, 10**6 * ONE_BASE), (market.quote_token, 10**10 * ONE_QUOTE)):
            contract = deployer.at("TestToken", token)
            await deployer.send(contract.functions.mint(deployer.account, amount))
            await deployer.send(contract.functions.approve(market.swap_router, MAX_UINT256))
        return cls(world, deployer, deployer.at("SwapRouter", market.swap_router))

    async def aclose(self) -> None:
        await self.deployer.web3.provider.disconnect()

    async def swap(self, chance: random.Random) -> PoolEvent:
        """A swap of chance on chain, and the event it left as a recording has it."""
        market = self.world.market
        tokens = [market.base_token, market.quote_token]
        amounts = [chance.randrange(1, 60 * ONE_BASE), chance.randrange(1, 120_000 * ONE_QUOTE)]
        sold = chance.randrange(2)
        path = encode_path([tokens[sold], tokens[1 - sold]], [market.fee])
        terms = (path, self.deployer.account, FAR_FUTURE, amounts[sold], 0)
        receipt = await self.deployer.send(self.router.functions.exactInput(terms))
        pool = self.deployer.at("UniswapV3Pool", market.pool)
        events = await pool.events.Swap().get_logs(from_block=receipt["blockNumber"])
        return PoolEvent(market.pool, "Swap", {name: str(value) for name, value in events[0]["args"].items()})
