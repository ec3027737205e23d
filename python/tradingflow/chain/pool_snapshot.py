"""Pools as they stand on chain, read into their exact counterparts in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from eth_typing import BlockNumber

from tradingflow.chain.amm.concentrated import ConcentratedPool, TickLiquidity
from tradingflow.chain.amm.constant_product import ConstantProductPool
from tradingflow.chain.amm.pool import Pool
from tradingflow.chain.amm.tick_bitmap import WORD_BITS, ticks_of
from tradingflow.chain.amm.tick_math import MAX_TICK, MIN_TICK
from tradingflow.chain.client import ChainClient
from tradingflow.chain.transactions import head_number
from tradingflow.chain.uniswap import UniswapReader

# Requests under way at once: enough to hide their latency, few enough for a public node.
AT_ONCE = 50


async def read_pool(client: ChainClient, address: str, block: int | None = None) -> Pool:
    """A Uniswap V3 pool or V2 pair at one block, by default the newest. Raises Refused("not_a_pool").

    Of a V3 pool every word of the bitmap is asked for: 116 requests at a tick spacing of 60, 6,932 at 1.
    """
    described = await UniswapReader(client).pool(address)
    at = BlockNumber(await head_number(client) if block is None else block)
    if described.kind == "v2":
        reserve0, reserve1, _ = await client.call("UniswapV2Pair", described.address, "getReserves", block=at)
        return ConstantProductPool(described.token0, described.token1, int(reserve0), int(reserve1), described.fee)
    reader = _Reader(client, described.address, at)
    (spacing,), (slot0,), (liquidity,) = await asyncio.gather(
        reader.ask("tickSpacing", [()]), reader.ask("slot0", [()]), reader.ask("liquidity", [()])
    )
    words = range(MIN_TICK // spacing // WORD_BITS, MAX_TICK // spacing // WORD_BITS + 1)
    bitmap = dict(zip(words, await reader.ask("tickBitmap", [(word,) for word in words]), strict=True))
    ticks = ticks_of({word: int(bits) for word, bits in bitmap.items() if bits}, spacing)
    known = await reader.ask("ticks", [(tick,) for tick in ticks])
    return ConcentratedPool(
        described.token0,
        described.token1,
        described.fee,
        int(spacing),
        sqrt_price=int(slot0[0]),
        tick=int(slot0[1]),
        liquidity=int(liquidity),
        ticks={tick: TickLiquidity(int(told[0]), int(told[1])) for tick, told in zip(ticks, known, strict=True)},
    )


class _Reader:
    def __init__(self, client: ChainClient, address: str, block: BlockNumber) -> None:
        self._client = client
        self._address = address
        self._block = block

    async def ask(self, function: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The answers to one function for many arguments, in their order."""
        answers: list[Any] = []
        for some in _chunks(arguments, AT_ONCE):
            calls = (
                self._client.call("UniswapV3Pool", self._address, function, *given, block=self._block) for given in some
            )
            answers += await asyncio.gather(*calls)
        return answers


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[first : first + size] for first in range(0, len(items), size))
