"""The executor's world on private servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devstack.anvil import Anvil
from devstack.executor_world import World, deploy_world, executor_world
from tests.deployed_chain import with_contracts

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
async def world(anvil: Anvil, database_url: str) -> AsyncIterator[World]:
    contracts = await with_contracts(anvil, "world", lambda: deploy_world(anvil, REPOSITORY))
    async with executor_world(anvil, database_url, REPOSITORY, contracts) as world:
        yield world
