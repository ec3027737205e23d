"""What the rooms of the integration tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from tradingflow.core.config import PlatformSettings
from tradingflow.db.engine import make_engine


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """On the test's own database; rooms with settings of their own have an engine of those."""
    engine = make_engine(PlatformSettings(database_url=SecretStr(database_url)), application="test")
    yield engine
    await engine.dispose()
