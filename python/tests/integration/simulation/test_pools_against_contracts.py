"""The pools in memory pay, integer for integer, what Uniswap's own contracts pay for the same state."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from web3.exceptions import ContractLogicError

from devstack.uniswap import Deployer
from tests.integration.simulation.markets import V2Market, V3Market
from tradingflow.chain.amm.concentrated import TICK_SPACINGS
from tradingflow.chain.amm.tick_math import MAX_TICK, sqrt_price_at
from tradingflow.chain.swap_path import encode_path
from tradingflow.core.errors import Refused
from tradingflow.py_worker.simulation.venue import PoolKey, PoolVenue

ACTIONS = 30
QUOTES_AN_ACTION = 4


def some_amount(chance: random.Random, digits: int = 32) -> int:
    """Dust and fortunes alike: every order of magnitude is as likely as any other."""
    return chance.randrange(1, 10 ** chance.randrange(1, digits))


class Walk:
    """A pool on chain and one in memory, moved together by chance."""

    def __init__(self, market: V3Market, chance: random.Random) -> None:
        self.market = market
        self.chance = chance
        self.spacing = TICK_SPACINGS[market.fee]
        self.positions: list[int] = []
        low, high = (token.address for token in market.tokens)
        self.key: PoolKey = (low, high, market.fee)
        self.venue = PoolVenue({self.key: market.empty_pool()})
        self.seen = 0

    async def follow(self) -> None:
        history = await self.market.history()
        for name, args in history[self.seen :]:
            self.venue.apply(self.key, name, args)
        self.seen = len(history)

    def path(self) -> bytes:
        tokens = list(self.key[:2])
        self.chance.shuffle(tokens)
        return encode_path(tokens, (self.market.fee,))

    async def act(self) -> None:
        deed = self.chance.random()
        if deed < 0.35 or not self.positions:
            await self._add()
        elif deed < 0.45:
            position = self.positions[self.chance.randrange(len(self.positions))]
            await self.market.remove(position, self.chance.choice([10, 50, 100]))
            self.positions.remove(position)
        else:
            await self._swap()
        await self.follow()

    async def _add(self) -> None:
        tick = (await self.market.pool.functions.slot0().call())[1] // self.spacing * self.spacing
        reach = self.spacing * 10 ** self.chance.randrange(1, 4)
        edge = MAX_TICK // self.spacing * self.spacing
        ends = sorted(tick + self.chance.randrange(-reach, reach + 1, self.spacing) for _ in range(2))
        lower, upper = max(ends[0], -edge), min(max(ends[1], ends[0] + self.spacing), edge)
        amounts = (10 ** self.chance.randrange(15, 24), 10 ** self.chance.randrange(15, 24))
        with suppress(ContractLogicError):  # at the ends of the price a range may be worth no liquidity at all
            self.positions.append(await self.market.add(lower, upper, amounts))

    async def _swap(self) -> None:
        # What empties a pool ends its price at the edge of the world, so that is kept rare.
        path, amount = self.path(), some_amount(self.chance, self.chance.choice([20, 23, 23, 23, 32]))
        if await self.market.quote(path, amount) is None:
            with pytest.raises(Refused, match="quote_refused"):
                self.venue.quote(path, amount)
            return
        moved = await self.market.swap(path, amount)
        before = self.venue.pools[self.key]
        fill = self.venue.swap(path, amount)
        assert (fill.amount_in, fill.amount_out) == moved
        mine = self.venue.pools[self.key]
        self.venue.set_pool(self.key, before)
        await self.follow()
        assert self.venue.pools[self.key] == mine

    async def compare(self) -> None:
        pool = self.venue.pools[self.key]
        sqrt_price, tick, *_ = await self.market.pool.functions.slot0().call()
        liquidity = await self.market.pool.functions.liquidity().call()
        assert (pool.sqrt_price, pool.tick, pool.liquidity) == (sqrt_price, tick, liquidity)  # type: ignore[attr-defined]
        for _ in range(QUOTES_AN_ACTION):
            path, amount = self.path(), some_amount(self.chance)
            assert self._mine(path, amount) == await self.market.quote(path, amount)

    def _mine(self, path: bytes, amount: int) -> int | None:
        try:
            return self.venue.quote(path, amount)
        except Refused:
            return None


@pytest.mark.parametrize(("fee", "tick", "seed"), [(3000, 0, 1), (500, 76_012, 2), (10_000, -200_123, 3), (500, 3, 4)])
async def test_a_v3_pool_follows_its_contract_through_random_liquidity_and_swaps(
    deployer: Deployer, fee: int, tick: int, seed: int
) -> None:
    chance = random.Random(seed)
    market = await V3Market.deploy(deployer, fee, sqrt_price_at(tick) + chance.randrange(1_000))
    walk = Walk(market, chance)
    await walk.follow()
    for _ in range(ACTIONS):
        await walk.act()
        await walk.compare()


async def test_a_v2_pair_pays_what_its_router_pays(deployer: Deployer) -> None:
    chance = random.Random(5)
    market = await V2Market.deploy(deployer, (chance.randrange(1, 10**24), chance.randrange(1, 10**21)))
    low, high = (token.address for token in market.tokens)
    venue = PoolVenue({(low, high, None): await market.as_pool()})
    for _ in range(60):
        sold, amount = chance.randrange(2), some_amount(chance) % 10**23 + 1
        path = encode_path((low, high) if sold == 0 else (high, low))
        if venue.quote(path, amount) == 0:
            with pytest.raises(Refused, match="reverted"):
                venue.swap(path, amount)
            continue
        fill = venue.swap(path, amount)
        assert fill.amount_out == await market.swap(sold, amount)
        assert venue.pools[low, high, None] == await market.as_pool()
