"""A market that moves between two questions about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devstack.executor_world import ONE_QUOTE, World
from devstack.uniswap import FAR_FUTURE
from devstack.vaults import LocalVaults
from tradingflow.chain.uniswap import UniswapReader

REPOSITORY = Path(__file__).resolve().parents[3]


async def buy_dearly(world: World) -> None:
    """Somebody buys so much of the base token that its price rises by far more than any slippage allowed here."""
    market, amount = world.market, 1_000_000 * ONE_QUOTE
    async with LocalVaults(world.anvil.url, REPOSITORY) as vaults:
        somebody = vaults.deployer
        token = somebody.at("TestToken", market.quote_token)
        router = somebody.at("SwapRouter", market.swap_router)
        await somebody.send(token.functions.mint(somebody.account, amount))
        await somebody.send(token.functions.approve(market.swap_router, amount))
        terms = (market.quote_token, market.base_token, market.fee, somebody.account, FAR_FUTURE, amount, 0, 0)
        await somebody.send(router.functions.exactInputSingle(terms))


def rise_after_quotes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the price rises right after it was quoted."""
    quoted = UniswapReader.quote

    async def quote_then_rise(reader: UniswapReader, *arguments: Any, **named: Any) -> int:
        amount_out = await quoted(reader, *arguments, **named)
        await buy_dearly(world)
        return amount_out

    monkeypatch.setattr(UniswapReader, "quote", quote_then_rise)


def rise_before_quotes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the price rises right before it is quoted."""
    quoted = UniswapReader.quote

    async def rise_then_quote(reader: UniswapReader, *arguments: Any, **named: Any) -> int:
        await buy_dearly(world)
        return await quoted(reader, *arguments, **named)

    monkeypatch.setattr(UniswapReader, "quote", rise_then_quote)
