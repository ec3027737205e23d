"""A chain, a database and a follower between them."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from devstack.anvil import CHAIN_ID, Anvil
from devstack.emitter import Emitter
from tradingflow.chain.registry import AbiRegistry
from tradingflow.core.config import ChainSettings
from tradingflow.monitor.follower import Follower
from tradingflow.monitor.server import follow_chain

from .stored import Stored


class Follow(Protocol):
    def __call__(self, **settings: object) -> AbstractAsyncContextManager[Follower]: ...


@pytest.fixture
def emitter(anvil: Anvil) -> Emitter:
    return Emitter(anvil)


@pytest.fixture
def stored(engine: AsyncEngine) -> Stored:
    return Stored(engine, CHAIN_ID)


@pytest.fixture
def follow(anvil: Anvil, engine: AsyncEngine) -> Follow:
    """`async with follow(pools=(…), finality_blocks=8) as follower`, then `await stored.catch_up(follower)`."""

    @asynccontextmanager
    async def make(**settings: object) -> AsyncIterator[Follower]:
        fields = {"chain_id": CHAIN_ID, "name": "local", "rpc_urls": (anvil.url,), "poll_interval_s": 0.05} | settings
        async with follow_chain(ChainSettings.model_validate(fields), engine, AbiRegistry()) as follower:
            yield follower

    return make
