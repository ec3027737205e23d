"""The trade gateway on real PostgreSQL: one row and one message a trade, whatever runs twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from tests.integration.worker.nodes import TEST_TYPES, node
from tradingflow.chain.swap_path import encode_path
from tradingflow.core.config import ChainSettings, WorkerSettings
from tradingflow.core.errors import DependencyUnavailable, Refused
from tradingflow.core.evm import address_from_bytes
from tradingflow.core.ids import trade_id
from tradingflow.db.engine import SessionFactory, make_session_factory
from tradingflow.db.models import Cycle, Flow, FlowVersion, OutboxMessage, Schedule, Trade, Vault
from tradingflow.py_worker.engine.graph import build_graph
from tradingflow.py_worker.kit import MarketData, SwapIntent, TokenInfo
from tradingflow.py_worker.runtime.live import LiveCycle
from tradingflow.py_worker.runtime.records import StoredCycle
from tradingflow.py_worker.runtime.settlements import Settlements
from tradingflow.py_worker.specs import node_specs
from tradingflow.py_worker.trade_gateway import LiveTrading, NodeTrades

CHAIN_ID = 31337
WETH, USDC, VAULT, ROUTER = (address_from_bytes(bytes([n]) * 20) for n in (1, 2, 3, 4))
INTENT = SwapIntent(CHAIN_ID, VAULT, encode_path([USDC, WETH]), USDC, WETH, 2_000_000, 50)
GRAPH = {"nodes": [node("swap", "emit")], "edges": []}


class Decimals:
    """Only what a receipt needs to know of tokens."""

    async def token(self, chain_id: int, address: str) -> TokenInfo:
        return TokenInfo(address, 18 if address == WETH else 6)


@pytest.fixture
async def live(sessions: SessionFactory, add_user: Callable[[], Any]) -> LiveCycle:
    """An open cycle of a user who has a vault."""
    user_id: UUID = await add_user()
    flow_pk = uuid4()
    async with sessions.begin() as session:
        session.add(Flow(id=flow_pk, user_id=user_id, flow_id="t", status="running", mode="live", current_version=1))
        await session.flush()
        session.add(FlowVersion(flow_pk=flow_pk, version=1, graph=GRAPH))
        session.add(Schedule(flow_pk=flow_pk, cycle_interval="0", next_cycle=1))
        await session.flush()
        now = datetime.now(UTC)
        session.add(Cycle(flow_pk=flow_pk, cycle=0, version=1, fire_time=now, trigger="manual", status="running"))
        session.add(
            Vault(
                user_id=user_id,
                chain_id=CHAIN_ID,
                address=VAULT,
                owner_address=ROUTER,
                factory=ROUTER,
                created_block=1,
            )
        )
    stored = StoredCycle((flow_pk, 0), "t", user_id, "running", "live", 1, "running", {})
    return LiveCycle(stored, build_graph(GRAPH, node_specs(TEST_TYPES)), 4)


@pytest.fixture
def trading(sessions: SessionFactory) -> LiveTrading:
    chain = ChainSettings(chain_id=CHAIN_ID, name="test", rpc_urls=("http://127.0.0.1:1",), swap_router=ROUTER)
    return LiveTrading(sessions, {CHAIN_ID: chain}, Settlements())


def gateway(trading: LiveTrading, live: LiveCycle) -> NodeTrades:
    return trading.gateway(live, "swap", cast("MarketData", Decimals()))


async def settle(sessions: SessionFactory, trading: LiveTrading, **outcome: Any) -> str:
    """What the executor does when a trade ends: wait for the row, change it, say so."""
    async with asyncio.timeout(20):
        while True:
            async with sessions.begin() as session:
                identity = await session.scalar(select(Trade.id).where(Trade.status == "requested"))
                if identity is not None:
                    await session.execute(update(Trade).values(settled_at=func.now(), **outcome))
                    break
            await asyncio.sleep(0.02)
    trading.settlements.announce(identity)
    return identity


async def refused(trades: NodeTrades, code: str) -> None:
    """A swap that is not refused would wait for the executor, who is not here."""
    async with asyncio.timeout(10):
        with pytest.raises(Refused, match=code):
            await trades.swap(INTENT)


MINED = {"status": "completed", "amount_out": 10**15, "transaction_hash": "0x" + "ab" * 32, "block_number": 7}


async def counted(sessions: SessionFactory) -> tuple[int, int]:
    async with sessions() as session:
        trades = await session.scalar(select(func.count()).select_from(Trade))
        messages = await session.scalar(select(func.count()).select_from(OutboxMessage))
    return trades or 0, messages or 0


async def test_a_mined_trade_comes_back_as_a_receipt(
    sessions: SessionFactory, trading: LiveTrading, live: LiveCycle
) -> None:
    receipt, identity = await asyncio.gather(gateway(trading, live).swap(INTENT), settle(sessions, trading, **MINED))
    assert receipt.trade_id == identity == trade_id(live.key[0], 1, 0, "swap")
    assert (receipt.amount_in, receipt.amount_out) == (2_000_000, 10**15)
    assert str(receipt.price.normalize()) == "0.0005"


async def test_a_node_that_runs_again_finds_its_own_trade(
    sessions: SessionFactory, trading: LiveTrading, live: LiveCycle
) -> None:
    async with asyncio.timeout(20):
        first = asyncio.create_task(gateway(trading, live).swap(INTENT))
        second = asyncio.create_task(gateway(trading, live).swap(replace(INTENT, amount_in=999)))
        await settle(sessions, trading, **MINED)
        assert await first == await second
        third = await gateway(trading, live).swap(INTENT)
    assert third.amount_in in (2_000_000, 999)
    assert await counted(sessions) == (1, 1)


async def test_a_lost_announcement_does_not_lose_the_receipt(
    sessions: SessionFactory, trading: LiveTrading, live: LiveCycle
) -> None:
    deaf = replace(trading, settlements=Settlements())
    async with asyncio.timeout(20):
        receipt, _ = await asyncio.gather(gateway(deaf, live).swap(INTENT), settle(sessions, trading, **MINED))
    assert receipt.block_number == 7


class Watched:
    """Says when a session is taken to read once more."""

    def __init__(self, sessions: SessionFactory) -> None:
        self._sessions = sessions
        self.begin = sessions.begin
        self._reads = 0
        self.read_again = asyncio.Event()

    def __call__(self) -> AsyncSession:
        self._reads += 1
        if self._reads > 1:
            self.read_again.set()
        return self._sessions()


async def test_a_node_waits_for_its_trade_while_every_connection_is_in_use(
    sessions: SessionFactory,
    trading: LiveTrading,
    live: LiveCycle,
    settings: WorkerSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tradingflow.py_worker.trade_gateway.LOOK_AGAIN_S", 0.01)
    await asyncio.gather(gateway(trading, live).swap(INTENT), settle(sessions, trading, **MINED))
    small = create_async_engine(settings.database_dsn, pool_size=1, max_overflow=0, pool_timeout=0.01)
    watched = Watched(make_session_factory(small))
    trades = gateway(replace(trading, sessions=cast("SessionFactory", watched)), live)
    async with small.connect(), asyncio.timeout(20):
        waiting = asyncio.create_task(trades._settled(trades._identity()))
        await watched.read_again.wait()
    assert (await waiting).status == "completed"
    await small.dispose()


class AnswerLost(Watched):
    """Commits, or not, and loses the connection before it says so."""

    def __init__(self, sessions: SessionFactory, *, commits: bool) -> None:
        super().__init__(sessions)
        self._commits = commits
        self.begin = self._begin  # type: ignore[assignment]

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncSession]:
        async with self._sessions() as session:
            yield session
            await (session.commit() if self._commits else session.rollback())
            raise ConnectionResetError


@pytest.mark.parametrize("commits", [True, False])
async def test_a_trade_whose_commit_was_not_answered_is_waited_for_if_it_was_made(
    sessions: SessionFactory, trading: LiveTrading, live: LiveCycle, commits: bool
) -> None:
    lossy = replace(trading, sessions=cast("SessionFactory", AnswerLost(sessions, commits=commits)))
    async with asyncio.timeout(20):
        if commits:
            receipt, _ = await asyncio.gather(gateway(lossy, live).swap(INTENT), settle(sessions, trading, **MINED))
            assert receipt.block_number == 7
        else:
            with pytest.raises(DependencyUnavailable):
                await gateway(lossy, live).swap(INTENT)


async def test_a_failed_trade_is_a_refusal_with_the_executors_words(
    sessions: SessionFactory, trading: LiveTrading, live: LiveCycle
) -> None:
    failed = {"status": "failed", "failure_code": "slippage", "failure_detail": "the price moved"}
    with pytest.raises(Refused, match="slippage: the price moved"):
        await asyncio.gather(gateway(trading, live).swap(INTENT), settle(sessions, trading, **failed))


async def test_the_vault_of_somebody_else_is_refused_and_leaves_no_trade(
    sessions: SessionFactory, trading: LiveTrading, live: LiveCycle, add_user: Callable[[], Any]
) -> None:
    other = await add_user()
    async with sessions.begin() as session:
        await session.execute(update(Vault).values(user_id=other))
    await refused(gateway(trading, live), "unknown_vault")
    assert await counted(sessions) == (0, 0)


async def test_a_stopped_cycle_cannot_trade_any_more(
    sessions: SessionFactory, trading: LiveTrading, live: LiveCycle
) -> None:
    async with sessions.begin() as session:
        await session.execute(update(Cycle).values(status="terminated"))
    await refused(gateway(trading, live), "cycle_ended")
    assert await counted(sessions) == (0, 0)


async def test_a_chain_without_a_router_is_refused(trading: LiveTrading, live: LiveCycle) -> None:
    with pytest.raises(Refused, match="no_router"):
        await gateway(trading, live).swap(replace(INTENT, chain_id=5))
