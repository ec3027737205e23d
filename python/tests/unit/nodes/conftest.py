"""A market and a gateway in memory, for nodes that read prices and trade."""

import pytest

from tradingflow.py_worker.kit.testing import FixedMarkets, MemoryContext, SpendingGateway


@pytest.fixture
def markets() -> FixedMarkets:
    return FixedMarkets()


@pytest.fixture
def gateway(markets: FixedMarkets) -> SpendingGateway:
    return SpendingGateway(markets)


@pytest.fixture
def ctx(markets: FixedMarkets, gateway: SpendingGateway) -> MemoryContext:
    return MemoryContext(markets=markets, trades=gateway)
