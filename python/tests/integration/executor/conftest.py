"""The executor's world on private servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devstack.anvil import Anvil
from devstack.executor_world import World, executor_world

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
async def world(anvil: Anvil, database_url: str) -> AsyncIterator[World]:
    async with executor_world(anvil, database_url, REPOSITORY) as world:
        yield world
