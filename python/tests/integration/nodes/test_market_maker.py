"""The market maker on a real chain."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path

import pytest

from devstack.anvil import Anvil
from devstack.market_maker import MarketMaker, Move, following, read_closes, wandering
from devstack.private_servers import PrivateServers
from devstack.uniswap import LocalMarket, deploy_market

REPOSITORY = Path(__file__).resolve().parents[4]
ENOUGH_S = 30


class Moves:
    """What the market maker did, as it happens."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Move] = asyncio.Queue()
        self.add = self._queue.put_nowait

    async def next(self, count: int) -> list[Move]:
        async with asyncio.timeout(ENOUGH_S):
            return [await self._queue.get() for _ in range(count)]


@asynccontextmanager
async def trading(url: str, market: LocalMarket, factors: Iterator[Decimal]) -> AsyncIterator[Moves]:
    moves = Moves()
    maker = MarketMaker(url, REPOSITORY, market, factors, interval_s=0.01, on_move=moves.add)
    task = asyncio.create_task(maker.run())
    yield moves
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_the_price_goes_where_it_is_steered_up_and_down(anvil: Anvil, market: LocalMarket) -> None:
    factors = [Decimal("1.05"), Decimal("0.97"), Decimal("1.2")]
    async with trading(anvil.url, market, itertools.chain(factors, itertools.repeat(Decimal(1)))) as moves:
        seen = await moves.next(3)
    for move, factor in zip(seen, factors, strict=True):
        assert abs(move.price_after / (2000 * factor) - 1) < Decimal("0.000001")


async def test_it_follows_the_closes_of_a_candles_file_scaled_to_the_pool(
    anvil: Anvil, market: LocalMarket, tmp_path: Path
) -> None:
    candles = tmp_path / "candles.csv"
    candles.write_text("date,open,high,low,close,volume\nd,1,1,1,0.1,5\nd,1,1,1,0.11,5\nd,1,1,1,0.105,5\n")
    async with trading(anvil.url, market, following(candles)) as moves:
        seen = await moves.next(3)
    for move, expected in zip(seen, [2200, 2100, 2200], strict=True):
        assert abs(move.price_after / expected - 1) < Decimal("0.00001")


async def test_it_goes_on_after_the_chain_went_away_and_came_back(servers: PrivateServers) -> None:
    with servers.fresh_chain(persistent=True) as chain:
        market = await deploy_market(chain.url, REPOSITORY)
        async with trading(chain.url, market, wandering(1)) as moves:
            await moves.next(3)
            await asyncio.to_thread(chain.stop)
            await asyncio.to_thread(chain.start)
            await moves.next(3)


def test_the_same_seed_walks_the_same_way_and_another_seed_another() -> None:
    def walk(seed: int) -> list[Decimal]:
        return list(itertools.islice(wandering(seed), 50))

    assert walk(7) == walk(7) != walk(8)
    assert max(walk(7)) / min(walk(7)) > Decimal("1.05")


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "date,close\nd,1\n", "date,close\nd,1\nd,0\n"])
def test_a_file_without_prices_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "candles.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"candles\.csv"):
        read_closes(file)
